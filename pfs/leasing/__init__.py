"""The server's promise to mounts: what they hold copies of is not changed before they have been told."""
