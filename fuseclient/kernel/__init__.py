"""The kernel's side of the mount: its requests, its numbers, what it has open."""
