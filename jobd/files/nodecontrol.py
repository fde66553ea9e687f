"""`ctl` of a machine: the commands of administrators, and of whoever it belongs to."""

from collections.abc import Collection

from jobd.files.control import Control
from jobd.files.sources import Sources
from jobd.nodectl import HELP, Drain, Rename, Resume, parse_ctl
from pfs.perm import Subject


def node_control(sources: Sources, node_ids: Collection[str], mtime_ns: int) -> Control:
    """Return the `ctl` of a node.

    Args:
        node_ids: of the machines that a command is for.
    """
    engine = sources.engine

    async def obey(subject: Subject, data: bytes) -> None:
        for command in parse_ctl(data):
            match command:
                case Drain(why):
                    await engine.drain(subject, node_ids, why)
                case Resume():
                    await engine.resume(subject, node_ids)
                case Rename(name):
                    await engine.roster.rename_node(subject, min(node_ids), name)

    return Control(("node", min(node_ids)), HELP, obey, mtime_ns, sources.audit)
