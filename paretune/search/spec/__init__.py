"""What a sweep file says: read, checked, as a space."""
