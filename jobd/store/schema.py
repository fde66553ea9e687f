"""Brings a database to the schema of this program, by the migrations in `jobd/migrations`."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData

from jobd.store.tables import JobRow
from pfs.accounts import User
from pfs.sql import make_engine


def metadata() -> MetaData:
    """Return the tables as this program has them: those of accounts and those of jobs are in one schema."""
    assert User.metadata is JobRow.metadata
    return JobRow.metadata


def upgrade(url: str) -> None:
    """Apply what is missing; a database that is up to date is left alone."""
    config = Config()
    config.set_main_option("script_location", str(files("jobd.store") / "migrations"))
    engine = make_engine(url)
    try:
        # the connection is handed over: an address with a password never stands in a config
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()
