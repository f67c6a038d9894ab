"""Networks of PyTorch: how they are built and trained."""
