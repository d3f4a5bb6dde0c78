"""Gemma-3 through llama.cpp, several frames at once; for the worker process alone, but for `plan` and `options`."""
