"""Sweeps that a client's own scheduler searches; a sweep's program beside its definition; runs that were enqueued have no trial."""

import sqlalchemy as sa
import yaml
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("issue") as table:
        table.alter_column("trial", existing_type=sa.Integer(), nullable=True)
    with op.batch_alter_table("sweep") as table:
        table.add_column(sa.Column("program", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("engine", sa.String(length=16), nullable=True))
    sweep = sa.table("sweep", sa.column("id", sa.Integer), sa.column("definition", sa.Text), sa.column("program", sa.Text))
    connection = op.get_bind()
    for number, definition in connection.execute(sa.select(sweep.c.id, sweep.c.definition)).all():
        program = str(yaml.safe_load(definition).get("program") or "")
        connection.execute(sa.update(sweep).where(sweep.c.id == number).values(program=program))
