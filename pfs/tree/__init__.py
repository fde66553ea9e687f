"""The tree that the server shows: its top, nodes that packages add, and one caller's way through it."""
