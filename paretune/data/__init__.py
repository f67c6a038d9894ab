"""Data sets, their pictures and their splits."""
