"""The proof of the promise: every number that a camera's frames were given has exactly one end."""
