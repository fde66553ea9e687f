"""What the mount knows and holds without asking: leased copies, blocks, what is read ahead and gathered."""
