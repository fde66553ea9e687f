"""What users do inside of running jobs: programs that run there, and ports that are forwarded from here.

exec      a program beside a process of a job        | forward   ports of a process of a job, on this machine
line      the connection to the server, for both     | tty       the terminal that one sits at
commands  how `paddle` calls them                    | options   which `pit` has, too
"""
