"""The file service: one tree per datacenter, served to mounts, programs and nodes. It knows no job.

- `errors path keys api perm xattr`: the words, for both ends: nouns, names, rights; no I/O
- `protocol`: how they travel
- `disk`: ordinary files, never by a link that a user made; `accounts`: who may come in
- `audit`: who did what; `sql`: the database under both
- `tree`: the tree that the server shows, and one caller's view of it
- `leasing`: that view with copies that mounts may trust; `client`: the same view over the network
- `server`: the doors
"""
