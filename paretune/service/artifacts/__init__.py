"""Artifacts, their collections, filters and values."""
