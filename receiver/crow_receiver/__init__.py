"""The receiver: ingest → session → vision → batch → outbox → queue."""
