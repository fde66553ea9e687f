"""What `paddle` does beside submitting and mounting: commands about jobs, files and the account, and what they print.

commands   jobs: wait, kill, why, logs, …        | getting   jobs, workers, nodes, quota, registries as tables
files      pfs cp, ls, …, and cp, ls, …          | account   register, login, tokens, config, use
options    what many of them take                | tables    rows of what the server tells
manner     what is said before a command, and holds for whichever it is
jobs       how they are asked for, and ended
"""
