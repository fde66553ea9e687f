"""A node from the command line: what `gradient-node` is told, and what it keeps.

options     flags, variables and configuration           | enrolling  with a join token it gets a key of its own
policyfile  the owner's word; rules: it, made ready
files       how its jobs get to the server's tree        | service    a systemd unit
"""
