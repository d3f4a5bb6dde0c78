"""Which samples are worth sending."""
