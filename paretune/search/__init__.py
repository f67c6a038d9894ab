"""The sweep engine: a W&B sweep YAML, checked, searched by Optuna. Never imports trainers or analysis."""
