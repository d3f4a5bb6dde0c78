"""The command `crow-receiver`."""
