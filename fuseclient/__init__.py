"""The mount: a datacenter's tree as a file system of the kernel. It knows nodes and errors, and no job.

- `cache`: a file system that answers from leased copies, over `pfs.client`
- `behind`: the same, for new files that cost one message, and for programs that do not wait for their changes
- `kernel`: the kernel's requests, answered from any file system
- `mount report`: the life of a mount, and what it says of itself
"""
