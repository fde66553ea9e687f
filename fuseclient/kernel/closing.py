"""How things stand with a writer that closes a file: it is done, somebody else goes on, or it is being ended."""

from fuseclient.kernel import procs
from pfs.api import Closing


def how_it_closes(number: int, path: str, opener: procs.Process | None) -> Closing:
    """Tell how things stand with a writer that waits for us in close(2). To be run in a thread.

    Args:
        number: the inode that it closes, with its path from the root of the mount.
        opener: who opened it, where that is known.
    """
    if opener is not None and procs.is_dying(opener):
        return Closing.DYING  # who else holds it, which takes long to find out, changes nothing
    writers = [holder.pid for holder in procs.holders({number: path})[number] if holder.writing]
    suspects = [process for pid in writers if (process := procs.identify(pid)) is not None]
    if opener is not None:
        suspects.append(opener)
        if procs.dies_under(opener):
            return Closing.DYING
    if any(procs.is_dying(suspect) for suspect in suspects):
        return Closing.DYING
    return Closing.SHARED if writers else Closing.LAST
