"""What is suggested next."""
