"""From run histories to a decision: python -m analysis.<step>. Imports `trainers`, never `search`."""
