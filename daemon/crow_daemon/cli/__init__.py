"""The command `crow-daemon`."""
