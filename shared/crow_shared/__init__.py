"""What the daemon and the receiver have in common."""
