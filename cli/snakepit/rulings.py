"""The commands of `pit` that change what there is: users, groups, nodes, aliases, and with whom jobs are shared.

They are declared here, for `cli.pit` to put them where the help lists them.
"""

import click

from cli.snakepit import choices, connection
from cli.snakepit.usage import PitGroup

PROPERTIES = """\
Examples:

{examples}

"entity" is one of {kinds}. Properties are name=value:
  user:   fullname, email, password, admin=yes|no{more}
  group:  title
  alias:  name, the exact model of the GPUs{end}"""
ADDED = PROPERTIES.format(
    examples="$ pit add user:ann fullname='Ann Example'\n$ pit add group:students title='All students'\n"
    "$ pit add alias:gtx1070 name='GeForce GTX 1070'\n$ pit add node:n0",
    kinds="user:<name>, group:<name>, alias:<name> and node:<name>",
    more="",
    end="\nWhat is missing is asked for. For a node it is printed what to run on its machine.",
)
CHANGED = PROPERTIES.format(
    examples="$ pit set me autoshare=students,research\n$ pit set user:ann admin=yes",
    kinds="me, user:<name>, group:<name> and alias:<name>",
    more=", autoshare=<group>,… or autoshare= for none",
    end="",
)
REMOVED = """\
Examples:

$ pit remove user:ann
$ pit rm job:17
$ pit rm me

"entity" is one of me, which is one's own account, user:<name>, group:<name>, alias:<name>, node:<name>, whose machine
is away, and job:<number>, which is over. The files of users, groups and jobs are put aside."""
GROUPED = """\
Examples:

{examples}

"entity" is one of user:<name>, job:<number>, node:<name>, and node:<name>:<index> for one GPU."""
READ = """\
Examples:

$ pit get me email
$ pit get job:17 state

"entity" is what `pit show` takes, "property" a name that `pit show <entity> --json` prints."""

entity_argument = click.argument("entity", metavar="<entity>", shell_complete=choices.entities)


def declare_changes(pit: PitGroup) -> None:
    """Put those there that stand before `show`."""

    @pit.command_of("add <entity> [properties...]", "adds an entity to the system", ADDED)
    @entity_argument
    @click.argument("properties", metavar="[properties...]", nargs=-1)
    def _add(entity: str, properties: tuple[str, ...]) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.add(client, entity, properties)

    @pit.command_of("remove|rm <entity>", "removes an entity from the system", REMOVED)
    @entity_argument
    def _remove(entity: str) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.remove(client, entity)

    @pit.command_of("set <entity> <assignments...>", "sets properties of an entity", CHANGED)
    @entity_argument
    @click.argument("assignments", metavar="<assignments...>", nargs=-1, required=True)
    def _set(entity: str, assignments: tuple[str, ...]) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.change(client, entity, assignments)

    @pit.command_of("get <entity> <property>", "gets a property of an entity", READ)
    @entity_argument
    @click.argument("name", metavar="<property>")
    def _get(entity: str, name: str) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            click.echo(administering.get(client, entity, name))


def declare_groups(pit: PitGroup) -> None:
    """Put those there that stand behind `show`."""
    examples = "$ pit add-group user:ann students\n$ pit add-group job:17 students\n$ pit add-group node:n0:1 research"

    @pit.command_of(
        "add-group <entity> <group>", "adds the entity to the access group", GROUPED.format(examples=examples)
    )
    @entity_argument
    @click.argument("group", metavar="<group>", shell_complete=choices.groups)
    def _add_group(entity: str, group: str) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.let_in(client, entity, group)

    @pit.command_of(
        "remove-group <entity> <group>",
        "removes the entity from the access group",
        GROUPED.format(examples=examples.replace("add-group", "remove-group")),
    )
    @entity_argument
    @click.argument("group", metavar="<group>", shell_complete=choices.groups)
    def _remove_group(entity: str, group: str) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.let_out(client, entity, group)


def declare_password(pit: PitGroup) -> None:
    """Put the one there that came last."""

    @pit.command_of(
        "passwd [username]",
        "changes a password",
        "Without a name your own. Administrators give others another one; all their tokens are taken back.",
    )
    @click.argument("username", metavar="[username]", required=False)
    def _passwd(username: str | None) -> None:
        from cli.snakepit import administering

        with connection.connected() as client:
            administering.change_password(client, username)
