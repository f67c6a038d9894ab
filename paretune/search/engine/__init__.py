"""How trials are claimed, trained and told."""
