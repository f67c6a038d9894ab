"""Search a W&B sweep file with Optuna, without account or network: python sweeps/offline.py sweeps/ann.yaml --trials 24."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from paretune.search.command_line import main

    sys.exit(main())
