"""Recordings on their way into the line: when they were taken, in which order, and how far they have come."""
