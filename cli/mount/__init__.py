"""A mount from the command line: `paddle mount`, `paddle umount`, and what mount(8) calls.

command  `paddle mount`                 | umount   `paddle umount`      | fuse  mount.fuse.pfs, umount.fuse.pfs
options  what stands behind `-o`        | status   `--status`, in words
point    a mount point as commands see it
choosing, connecting, serving   which datacenters there are, who of them is there, and the process behind the mount
"""
