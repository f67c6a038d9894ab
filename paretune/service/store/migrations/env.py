"""How alembic runs the steps: on the connection that it is given, in the transaction that is open there."""

from alembic import context

from paretune.service.store import artifact_tables  # noqa: F401  (its tables are of the same database)
from paretune.service.store.migrations import VERSION_TABLE
from paretune.service.store.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
