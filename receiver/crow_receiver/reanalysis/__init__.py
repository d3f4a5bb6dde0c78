"""Kept frames described again by another question or engine: beside what was said of them, compared, and told."""
