"""W&B runs: writing them, reading their files, and the names under which an Optuna study keeps them."""
