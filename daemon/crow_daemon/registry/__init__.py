"""The cameras that this daemon watches, and how to reach them."""
