"""Replaces NUL and lone surrogates in stored texts, also where JSON and YAML escape them."""

import json

import sqlalchemy as sa
import yaml
from alembic import op

revision = "0009"
down_revision = "0008"

TABLES = (
    "agent",
    "artifact",
    "artifact_alias",
    "artifact_collection",
    "artifact_file",
    "artifact_manifest",
    "issue",
    "project",
    "run",
    "run_file",
    "saved_view",
    "shared_summary",
    "sweep",
    "user_account",
)


def upgrade() -> None:
    connection = op.get_bind()
    reflected = sa.MetaData()
    reflected.reflect(connection, only=TABLES)
    for table in reflected.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.String):
                mend(connection, table, column)


def mend(connection: sa.Connection, table: sa.Table, column: sa.Column[str]) -> None:
    """Make the texts of a column fit."""
    suspect = column.contains("\\", autoescape=True)
    if connection.dialect.name == "sqlite":  # PostgreSQL never held one
        suspect |= sa.func.instr(column, sa.func.char(0)) > 0
    keys = list(table.primary_key.columns)
    for key in connection.execute(sa.select(*keys).where(suspect)).all():
        this = sa.and_(*(part == value for part, value in zip(keys, key, strict=True)))
        text = connection.scalars(sa.select(column).where(this)).one()
        found = mended(text, is_yaml=column.name == "definition")
        if found == text:
            continue
        connection.execute(sa.update(table).where(this).values({column: found}))


def fit(text: str) -> str:
    """Return a text with U+FFFD in place of NUL and of each half of a surrogate pair, which no database holds."""
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fitted(value: object) -> object:
    """Return JSON values with every text and key `fit`."""
    if isinstance(value, str):
        return fit(value)
    if isinstance(value, list):
        return [fitted(item) for item in value]
    if isinstance(value, dict):
        return {fit(key) if isinstance(key, str) else key: fitted(item) for key, item in value.items()}
    return value


def mended(text: str, *, is_yaml: bool) -> str:
    """Return a text without what no database holds; JSON or YAML that says it by escapes is written anew."""
    text = fit(text)
    try:
        values = yaml.safe_load(text) if is_yaml else json.loads(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return text
    fit_values = fitted(values)
    if not isinstance(values, dict | list) or fit_values == values:
        return text
    return str(yaml.safe_dump(fit_values, sort_keys=False)) if is_yaml else json.dumps(fit_values, separators=(",", ":"))
