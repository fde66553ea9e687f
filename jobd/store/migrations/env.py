"""Run by alembic: applies the steps over the connection that `jobd.store.schema` hands over."""

from alembic import context

from jobd.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    render_as_batch=True,  # SQLite changes a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
