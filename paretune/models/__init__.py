"""The contract of a model, and saved models."""
