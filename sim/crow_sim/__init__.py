"""The simulated shop: renderer with ground truth, RTSP server, small real Gemma-3."""
