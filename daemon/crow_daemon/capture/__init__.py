"""From a camera to numbered, accounted samples."""
