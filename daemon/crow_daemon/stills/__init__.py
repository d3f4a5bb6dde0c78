"""Single pictures of cameras, for those who set them up and look after them."""
