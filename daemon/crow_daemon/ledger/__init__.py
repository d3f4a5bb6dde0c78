"""What became of every sample that was due, by camera and minute."""
