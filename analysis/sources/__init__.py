"""Where runs come from: studies, W&B's files, W&B's server, ours."""
