"""The client's side of RTSP 1.0 (RFC 2326), as far as cameras speak it."""
