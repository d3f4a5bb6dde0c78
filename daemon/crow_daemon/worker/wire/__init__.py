"""What daemon and worker say to each other. Both ends use it, so it loads no library that touches bytes of cameras."""
