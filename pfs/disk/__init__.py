"""Data domains on the server's disk, and everything that touches it."""
