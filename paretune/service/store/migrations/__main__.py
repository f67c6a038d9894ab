"""Write the next step from what has changed in the tables: python -m paretune.service.store.migrations new "what changed"."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from paretune.core.command_line import SentenceParser
from paretune.service.store import migrations


def main(arguments: Sequence[str] | None = None) -> int:
    parser = SentenceParser(prog="python -m paretune.service.store.migrations", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="new")
    new = commands.add_parser("new", help="write a step from the difference between the steps and the tables")
    new.add_argument("text", metavar="TEXT", help="what changes, in a few words")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(write_step(options.text, Path(folder)))
    return 0


def write_step(text: str, folder: Path) -> Path:
    """Write a step from the difference between all steps so far and the tables, and return its path.

    Args:
        folder: for a database that is thrown away.
    """
    from alembic import command
    from alembic.config import Config

    number = f"{int(migrations.head()) + 1:04}"
    engine = sa.create_engine(f"sqlite:///{folder / 'steps.db'}")
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER).replace("%", "%%"))
    config.set_main_option("file_template", f"{number}_{re.sub(r'[^a-z0-9]+', '_', text.lower()).strip('_')}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        script = command.revision(config, text.rstrip("."), autogenerate=True, rev_id=number)
    engine.dispose()
    assert not isinstance(script, list | None), "one step is written"
    return Path(script.path)


if __name__ == "__main__":
    sys.exit(main())
