"""The file service: one tree per datacenter, served to mounts, programs and nodes. It knows no job.

errors, path, keys, api, perm, wire     cores: nouns, rights, formats; no I/O
sql, accounts                           who may come in
virtual, disk                           the two kinds of node: made by the server, ordinary files
service                                 one caller's view of the tree
channel, routes, client                 the same view over WebSocket and HTTP, both ends
guard                                   the HTTP server, made fit for the open
"""
