"""The durable, bounded buffer between the cameras and the uplink."""
