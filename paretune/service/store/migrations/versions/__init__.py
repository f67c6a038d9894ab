"""The steps, each a file, from the oldest tables to those of today."""
