"""Lists, nulls and booleans of configs and summaries, by which runs are found; what older versions stored is indexed anew."""

import json

import sqlalchemy as sa
from alembic import op

from paretune.service.store.run_values import BOOLEAN, NUMBER, rows_of

revision = "0010"
down_revision = "0009"
VALUES = ("kind", "number", "text", "size")


def upgrade() -> None:
    op.add_column("run_value", sa.Column("kind", sa.String(length=1), nullable=False, server_default="t"))
    op.add_column("run_value", sa.Column("size", sa.Integer(), nullable=True))
    op.create_table(
        "run_element",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=1), nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("position", sa.String(length=256), nullable=False),
        sa.Column("is_element", sa.Boolean(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", sa.String(length=512), nullable=True),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("size", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "place", "key", "position", "is_element"),
    )
    connection = op.get_bind()
    tables = sa.MetaData()
    run, value, element = (sa.Table(name, tables, autoload_with=connection) for name in ("run", "run_value", "run_element"))
    connection.execute(sa.update(value).where(value.c.number.is_not(None)).values(kind=NUMBER))
    for number in connection.scalars(sa.select(run.c.id)).all():
        config, summary = connection.execute(sa.select(run.c.config, run.c.summary).where(run.c.id == number)).one()
        for place, values in (("c", _plain(json.loads(config))), ("s", json.loads(summary))):
            found, in_lists = rows_of(values)
            own = (value.c.run_id == number, value.c.place == place)
            known = set(connection.scalars(sa.select(value.c.key).where(*own)))
            booleans = [key for key, kept in found.items() if kept.kind == BOOLEAN]
            if booleans:
                connection.execute(sa.update(value).where(*own, value.c.key.in_(booleans)).values(kind=BOOLEAN))
            row = {"run_id": number, "place": place}
            new = [{**row, "key": key, **_columns(kept)} for key, kept in found.items() if key not in known]
            listed = [{**row, **where._asdict(), **_columns(kept)} for where, kept in in_lists.items()]
            for table, rows in ((value, new), (element, listed)):
                if rows:
                    connection.execute(sa.insert(table), rows)


def _columns(kept: tuple[object, ...]) -> dict[str, object]:
    return dict(zip(VALUES, kept, strict=True))


def _plain(config: dict[str, object]) -> dict[str, object]:
    """Return a config without W&B's wrapping of each value and without what W&B keeps for itself."""
    return {
        key: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for key, entry in config.items()
        if key != "_wandb"
    }
