"""What a frame shows: the result schema, the engines, and the worker process that they run in."""
