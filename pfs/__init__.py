"""The file service: one tree per datacenter, served to mounts, programs and nodes. It knows no job.

- `errors path keys api perm wire`: cores: nouns, rights, formats; no I/O
- `sql accounts`: who may come in
- `system diskfile disk copytree`: ordinary files, never by a link that a user made
- `virtual`: nodes that the server makes
- `service tree`: one caller's view of it all
- `channel session bodies routes`: that view over WebSocket and HTTP; `client webclient`: the other ends
- `guard sockets`: the HTTP server, made fit for the open
"""
