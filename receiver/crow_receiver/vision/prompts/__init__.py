"""Prompts, one versioned TOML file each. A published prompt is never changed: a better one gets a new version."""
