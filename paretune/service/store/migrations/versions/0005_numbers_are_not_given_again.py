"""The number of a run, file, sweep or agent that was deleted is not given to another; PostgreSQL never did."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for name in ("run", "run_file", "sweep", "agent"):
        table_kwargs = {"sqlite_autoincrement": True}
        with op.batch_alter_table(name, recreate="always", table_kwargs=table_kwargs) as table:
            table.alter_column("id", existing_type=sa.Integer(), nullable=False, autoincrement=True)
