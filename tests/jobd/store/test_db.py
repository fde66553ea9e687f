from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from jobd.store.schema import metadata, upgrade
from pfs.sql import make_engine


def test_the_migrations_make_just_the_tables_of_the_program(tmp_path):
    url = f"sqlite:///{tmp_path}/x.sqlite"
    upgrade(url)
    upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata()) == []
    engine.dispose()
