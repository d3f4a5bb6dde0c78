"""The engine without weights: motion analysis; for the worker process alone."""
