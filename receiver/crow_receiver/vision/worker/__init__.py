"""The child process: pictures from outside are decoded and described here, where they can do little harm."""
