"""Jobs of PaddleCloud's kind: what is posted of them, and the folder that they run in. No server is asked here.

That folder is `home/<user>/jobs/<name>` of the datacenter, to which the package is brought, or one that is there
already. All processes of the job run in it, and what they leave in it stays. So as long as such a job is not over, no
package is brought there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cli.submit.packages import SUFFIXES, check_alone, is_remote, spec_in
from jobd.life.model import State
from jobd.rest.posted import NAME, spec_of
from jobd.spec.spec import parse_spec
from jobd.spec.values import name_problem
from pfs.errors import Kind, PfsError

JOBS = "/api/v1/jobs"
# what its client can be told, beside a name, an image and a registry
FIELDS = (
    *("entry", "topology", "parallelism", "cpu", "gpu", "memory", "pservers", "pscpu", "psmemory", "passes"),
    *("faulttolerant", "min_instance", "max_instance"),
)
OURS = ("command", "resources")  # what a job of the other kind says in the place of these


def is_meant(given: Mapping[str, object]) -> bool:
    """Tell whether options are those of a job of PaddleCloud's kind."""
    return any(field in given for field in FIELDS)


def fields_of(what: Path, name: str | None, given: Mapping[str, object]) -> dict[str, object]:
    """Return what is posted of a job.

    Args:
        what: its package: a folder of this machine, or one of the datacenter.

    Raises:
        PfsError: INVALID for options that say too little, or too much.
    """
    if ours := [key for key in OURS if key in given]:
        theirs = next(key for key in FIELDS if key in given)
        text = f"--{theirs} is of a job of PaddleCloud's kind, --{ours[0]} of one that is not; leave one of them out"
        raise PfsError(Kind.INVALID, text)
    if not given.get("entry") and not given.get("topology"):
        raise PfsError(Kind.INVALID, "no topology or entry specified; say what the trainers run: -entry COMMAND")
    problem = name_problem(name) if name is not None else None
    if problem is not None:
        raise PfsError(Kind.INVALID, problem)
    said = {field: _plain(value) for field, value in given.items()}
    if is_remote(what):
        return {"name": name or NAME, "job_package": str(what), **said}
    _check_folder(what, given)
    return {"name": name or NAME, **said}


def _plain(value: object) -> object:
    """Return a number without a fraction that says nothing."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_folder(what: Path, given: Mapping[str, object]) -> None:
    if not what.exists():
        raise PfsError(Kind.INVALID, f"there is no {what} here; name a folder, or one below /pfs")
    spec = spec_in(what)
    if what.is_file() and what.suffix not in SUFFIXES:
        raise PfsError(Kind.INVALID, f"{what} is no folder, and a package is one")
    if spec is not None:
        check_alone(spec, given)


def text_of(fields: Mapping[str, object], user: str, datacenter: str) -> bytes:
    """Return the spec that the server makes of what is posted.

    Raises:
        PfsError: INVALID for what it would not take.
    """
    posted = spec_of(fields, user, datacenter)
    try:
        parse_spec(posted.text, posted.name)
    except PfsError as error:
        raise PfsError(error.kind, posted.plainly(error.message)) from None
    return posted.text


def uploaded(name: str) -> str:
    """Return the path in the tree to which the package of a job is brought."""
    return f"home/me/jobs/{name}"


def check_free(jobs: Iterable[Mapping[str, Any]], name: str, user: str) -> None:
    """Refuse to bring a package to where a job of `user` runs.

    Args:
        jobs: those of `user`, as the server tells them.

    Raises:
        PfsError: BUSY.
    """
    there = _in_tree(f"jobs/{name}", user)
    for row in jobs:
        if _in_tree(row["job_package"], user) == there and not State(row["state"]).over:
            text = f"job {row['id']} runs in the folder jobs/{name}, and is not over; end it with `paddle kill"
            raise PfsError(Kind.BUSY, f"{text} {row['id']}`, or give the new one another -jobname")


def _in_tree(package: str, user: str) -> str:
    """Return where a package of `user` is: what a path says of its datacenter is the same for all that a server has."""
    return package.split("/", 3)[-1] if package.startswith("/pfs/") else f"home/{user}/{package}"
