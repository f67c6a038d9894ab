"""What is known of a history's keys: beside the kinds of their values the last number, which older rows did not keep."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run = sa.table("run", sa.column("id", sa.Integer), sa.column("history_keys", sa.Text))
    connection = op.get_bind()
    for number, text in connection.execute(sa.select(run.c.id, run.c.history_keys).where(run.c.history_keys != "{}")).all():
        known = {
            key: found if isinstance(found.get("kinds"), dict) else {"kinds": found, "last": 0}
            for key, found in json.loads(text).items()
        }
        changed = json.dumps(known, separators=(",", ":"))
        connection.execute(sa.update(run).where(run.c.id == number).values(history_keys=changed))
