"""The server of a datacenter from the command line: served, and administered on its own machine.

serve           the server                  | listening   whether it may listen there, and with which certificate
treeroutes      its door for shipped trees
administration  groups, reservations, names of GPUs, nodes
accounts        who has one                 | clusters, quotas, audits, address: what their commands do
ownauthority    the certificates that it makes itself
datacenter      a datacenter at rest, which all of these open
knock           how a running server hears of it
"""
