"""The models and the scripts that train them: what a sweep's `program` names."""
