"""Arrays: how the tasks of one stand together, and what that means for the array itself. Pure.

An array is a job without processes. It begins with the first of its tasks that runs and ends when all are over:
SUCCEEDED where all of them did, with the exit code of the first that did not otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from jobd.job import Job
from jobd.life.life import Life, State
from jobd.spec.model import JobSpec


@dataclass(slots=True)
class Array:
    """The tasks of one array.

    Attributes:
        open: numbers of the tasks that are not over, in order.
        at_once: how many may run at once; None for all.
        count: how many there are in all.
        failed: how many are over and did not succeed.
        code: exit code of the one of these that ended first; 0 for none.
    """

    at_once: int | None = None
    open: dict[int, None] = field(default_factory=dict)
    count: int = 0
    failed: int = 0
    code: int = 0
    first_failed_ns: int = 0

    @classmethod
    def of(cls, at_once: int | None, tasks: Iterable[Job]) -> "Array":
        """Return how tasks stand together."""
        array = cls(at_once)
        for task in tasks:
            array.count += 1
            if task.life.state.over:
                array._count(task)
            else:
                array.open[task.id] = None
        return array

    def ended(self, task: Job) -> None:
        """A task is over."""
        if task.id in self.open:
            del self.open[task.id]
            self._count(task)

    def _count(self, task: Job) -> None:
        life = task.life
        if life.state is State.SUCCEEDED:
            return
        self.failed += 1
        ended_ns = life.ended_at_ns or 0
        if self.code == 0 or ended_ns < self.first_failed_ns:
            self.code, self.first_failed_ns = life.exit_code or 1, ended_ns

    @property
    def result(self) -> tuple[int, str] | None:
        """The exit code and a sentence ("" where all succeeded), once all tasks are over."""
        if self.open:
            return None
        text = f"{self.failed} of {self.count} tasks did not succeed" if self.failed else ""
        return self.code, text


def at_once_of(spec: JobSpec) -> int | None:
    """Return how many tasks of an array may run at once; None for all."""
    return None if spec.array is None else spec.array.at_once


def was_let_go(array: Life, open_tasks: Iterable[Life]) -> bool:
    """Tell whether some task of an array was told already that nothing has to be over before it any more.

    So that was decided for all of them, whatever became since then of the jobs that they waited for.
    """
    return array.state is State.RUNNING or any(task.state is not State.PENDING for task in open_tasks)
