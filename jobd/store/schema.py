"""Brings a database to the schema of this program, by the migrations in `jobd/store/migrations`.

Alembic takes long to load, and every start and every command of an administrator comes by here: it is asked only where
something is missing. That says the name of the last step, which begins with the number of its version.
"""

from importlib.resources import files

from sqlalchemy import Connection, MetaData, inspect, text

from jobd.store.tables import JobRow
from pfs.accounts.store import User
from pfs.sql import make_engine

MIGRATIONS = files("jobd.store") / "migrations"
VERSION_TABLE = "alembic_version"


def metadata() -> MetaData:
    """Return the tables as this program has them: those of accounts and those of jobs are in one schema."""
    assert User.metadata is JobRow.metadata
    return JobRow.metadata


def upgrade(url: str) -> None:
    """Apply what is missing; a database that is up to date is left alone."""
    engine = make_engine(url)
    try:
        # the connection is handed over: an address with a password never stands in a config
        with engine.connect() as connection:
            if not _is_up_to_date(connection):
                _apply(connection)
                connection.commit()
    finally:
        engine.dispose()


def _is_up_to_date(connection: Connection) -> bool:
    if not inspect(connection).has_table(VERSION_TABLE):
        return False
    newest = max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").iterdir() if file.name[0].isdigit())
    return list(connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars()) == [newest]


def _apply(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
