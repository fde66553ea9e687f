"""Changes that programs were told are made and that the server does not have yet."""
