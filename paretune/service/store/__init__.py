"""What the service keeps: accounts, runs, histories, files."""
