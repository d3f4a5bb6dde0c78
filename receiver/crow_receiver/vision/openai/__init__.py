"""The engine on other machines: any server with the OpenAI API, images and JSON schemas; for the worker process."""
