"""What both ends of a connection know: frames, messages, and the nouns of the tree as they travel."""
