"""Files of a datacenter without a mount: named, looked at, and copied, whole folders of them.

copying ──▶ upload, download ──▶ large ──▶ local, remote        what moves bytes
                   │
                   └──▶ plan ──▶ record                         pure: what is to be done
looking, naming                                                 what is there, and how users write it
"""
