"""Random work whose outcome is known: a local directory or a row of bytes does the same, and must end up the same."""
