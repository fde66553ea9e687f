"""The directory `tasks/` of an array: `<k>/` for the task of index k, a job's directory like any other."""

from collections.abc import Callable, Sequence

from jobd.files.sources import Sources, missing
from jobd.job import Job
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, Node, directory_attr, virtual_id

WALK_VALID_S = 1.0  # whoever looks at thousands of names in `jobs` does not ask for `jobs` itself as often
LISTED_VALID_S = 2.0  # whoever looks at thousands of names does not ask for each what the listing has just told
OVER_VALID_S = 10.0  # so late may another mount see that a job was removed; `ls -l` asks for none of thousands again


def job_attr(job_id: int, changed_at_ns: int, *, over: bool, listed: bool = False) -> Attr:
    """Return the attributes of a job's directory; those of a job that is over stay as they are.

    Args:
        listed: a listing tells them: the kernel need not ask at once, mounts still do for what is in there.
    """
    valid_s, walk_s = (OVER_VALID_S, 0.0) if over else (0.0, LISTED_VALID_S if listed else 0.0)
    return directory_attr(virtual_id("job", job_id), mtime_ns=changed_at_ns, valid_s=valid_s, walk_s=walk_s)


def job_number(name: str) -> int:
    """Return the number that a name is; NOT_FOUND for any other name, `007` among them."""
    if not (name.isascii() and name.isdigit() and str(int(name)) == name):
        raise missing()
    return int(name)


class TasksDirectory(Directory):
    """Of an array: a folder for each task, by its number in the array.

    Args:
        enter: makes the directory of a job.
    """

    def __init__(self, sources: Sources, array: Job, enter: Callable[[Job], Node]) -> None:
        self._sources = sources
        self._array = array
        self._enter = enter

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("job", self._array.id, "tasks"), mtime_ns=self._array.life.submitted_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a task by its index; what may be read of the array may be read of its tasks."""
        task = await self._sources.store.task(self._array.id, job_number(name))
        if task is None:
            raise missing()
        return self._enter(await self._sources.engine.ledger.current(task))

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all tasks, by index."""
        tasks = await self._sources.store.listed_tasks(self._array.id)
        return [
            Entry(str(task.index), job_attr(task.id, task.changed_at_ns, over=task.over, listed=True)) for task in tasks
        ]
