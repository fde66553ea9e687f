"""Which files count for whose quota beside homes and folders of groups: the data of a job for its owner. Pure."""

from collections.abc import Callable, Iterable, Iterator

from jobd.engine.assign import data_path
from pfs.quota import HOME


def belongs(owner: Callable[[int], str | None]) -> Callable[[str], str]:
    """Return what tells for which domain another one counts.

    Args:
        owner: tells whose a job is that is not over; others change no more.
    """

    def home_of(domain: str) -> str:
        match domain.split("/"):
            case ["jobs", number, "data", *_] if number.isdigit() and (user := owner(int(number))) is not None:
                return HOME + user
        return domain

    return home_of


def further(jobs: Callable[[str], Iterable[int]]) -> Callable[[str], Iterator[str]]:
    """Return what tells which domains count for another one.

    Args:
        jobs: tells the numbers of a user's jobs that were not thrown away.
    """

    def data_of(domain: str) -> Iterator[str]:
        if domain.startswith(HOME):
            yield from map(data_path, jobs(domain.removeprefix(HOME)))

    return data_of
