"""What whoever runs the server does: backup, check, clean, and the main job through it."""
