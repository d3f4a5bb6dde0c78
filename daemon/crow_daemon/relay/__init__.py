"""Between a camera and libav: libav gets whole pictures from this process, and neither addresses nor credentials."""
