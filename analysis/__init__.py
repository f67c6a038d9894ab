"""From run histories to a decision: python -m analysis.<step>. Never imports paretune.trainers."""
