"""What must not be seen by anybody: hidden in the pixels before a picture leaves the camera's pipeline."""
