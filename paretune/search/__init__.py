"""The sweep engine: a W&B sweep YAML, checked, searched by Optuna. Imports `trainers`, never `analysis`."""
