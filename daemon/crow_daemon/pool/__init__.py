"""The daemon's side of its capture workers: which there are, what they read, what they say, when they are replaced."""
