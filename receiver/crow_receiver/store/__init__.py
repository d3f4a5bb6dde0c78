"""The receiver's durable state: one SQLite database and the picture segments beside it."""
