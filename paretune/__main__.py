"""`python -m paretune COMMAND`, as the command `paretune`."""

from __future__ import annotations

import sys

from paretune.cli import main

if __name__ == "__main__":
    sys.exit(main())
