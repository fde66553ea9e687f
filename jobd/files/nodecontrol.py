"""`ctl` of a machine: the commands of administrators, and of whoever it belongs to."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from jobd.files.control import Control
from jobd.files.facts import gpu_number
from jobd.files.sources import Sources
from jobd.nodectl import HELP, Command, Drain, Rename, Reserve, Resume, Unreserve, parse_ctl
from jobd.store.decisions import Groups
from jobd.store.tables import NodeRow
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Subject, Verb, allowed


class NodeControl(Control):
    """Commands of administrators, and of who owns it; reading it prints them."""


def node_control(sources: Sources, row: NodeRow, node_ids: Collection[str]) -> NodeControl:
    """Return the `ctl` of a node.

    Args:
        row: of the machine that has it.
        node_ids: of the machines that a command is for.
    """
    engine = sources.engine

    async def obey(subject: Subject, data: bytes) -> None:
        commands = parse_ctl(data)
        for command in commands:
            _check(sources, subject, row, node_ids, command)
        for command in commands:
            match command:
                case Drain(why):
                    await engine.drain(subject, node_ids, why)
                case Resume():
                    await engine.resume(subject, node_ids)
                case Rename(name):
                    await engine.roster.rename_node(subject, min(node_ids), name)
                case Reserve(group, numbers):
                    what = _named(row, numbers) if numbers else [(row.entry_id, "")]
                    await _reserve(sources, subject, what, frozenset({group}).union)
                case Unreserve(group, numbers):
                    what = _named(row, numbers) if numbers else _all(sources, row)
                    await _reserve(sources, subject, what, partial(_without, group))

    return NodeControl(("node", min(node_ids)), HELP, obey, row.registered_at_ns, sources.audit)


def _check(sources: Sources, subject: Subject, row: NodeRow, node_ids: Collection[str], command: Command) -> None:
    """Refuse a command, as far as that is known before anything is done."""
    match command:
        case Rename(name):
            sources.engine.roster.check_rename(subject, min(node_ids), name)
        case Reserve(_, numbers) | Unreserve(_, numbers):
            _check_may_reserve(subject)
            _named(row, numbers)
        case Drain() | Resume():
            sources.engine.check_closing(subject, node_ids)


def _check_may_reserve(subject: Subject) -> None:
    if not allowed(subject, Verb.RULE, SERVICE):
        raise PfsError(Kind.FORBIDDEN, "for whom nodes are reserved is said by administrators")


def _without(group: str, before: Groups) -> Groups:
    return before - {group}


async def _reserve(
    sources: Sources, subject: Subject, what: Sequence[tuple[str, str]], after: Callable[[Groups], Groups]
) -> None:
    _check_may_reserve(subject)
    await sources.store.reserve(what, after)
    await sources.engine.take_up_policy()


def _named(row: NodeRow, numbers: Iterable[str]) -> list[tuple[str, str]]:
    """Return GPUs of a machine by their numbers, as they are reserved.

    Raises:
        PfsError: NOT_FOUND for one that it does not have.
    """
    uuids = {gpu_number(gpu): str(gpu["uuid"]) for gpu in row.gpus}
    for number in numbers:
        if number not in uuids:
            raise PfsError(Kind.NOT_FOUND, f"the node has no GPU {number}; it has: {', '.join(uuids) or 'none'}")
    return [(row.id, uuids[number]) for number in numbers]


def _all(sources: Sources, row: NodeRow) -> list[tuple[str, str]]:
    """Return a node and all GPUs of it, as they are reserved."""
    fellows = [each.row for each in sources.engine.fleet.instances(row.entry_id)]
    return [(row.entry_id, ""), *((each.id, str(gpu["uuid"])) for each in fellows for gpu in each.gpus)]
