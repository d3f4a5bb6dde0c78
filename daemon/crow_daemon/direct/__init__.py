"""A reader of cameras that keeps their keyframes alone: RTSP over TCP, without libav, at a fraction of its cost."""
