"""The asking end: a tree over the network."""
