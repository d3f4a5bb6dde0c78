"""What is right and what is wrong with a camera, step by step."""
