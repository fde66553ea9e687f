"""From a folder or a spec on this machine to the text that is submitted, with what it names shipped.

a folder   all of it is shipped. The spec is its job.yaml; `src` in that is a folder in it, or is put there
a spec     where `src` is a folder of this machine, that is shipped; all else is the server's to understand: a path
           below /pfs, or in one's home there
/pfs/…     a folder of the datacenter, of which the job gets a copy

Jobs of PaddleCloud's kind are in `cli.submit.paddlecloud`. Nothing is printed here.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from cli.submit.ship import Shipped
from cli.submit.spectext import name_of, src_of, with_src, written
from jobd.manifest import TREE
from pfs.errors import Kind, PfsError

SUFFIXES = (".yaml", ".yml", ".json")
SPECS = tuple(f"job{suffix}" for suffix in SUFFIXES)
SCRIPT = ".compute"
REMOTE = "/pfs/"

Bring = Callable[[Path], Shipped]  # sees to it that the server has a folder


def package(what: Path, name: str | None, given: Mapping[str, str | None], bring: Bring) -> tuple[str, bytes]:
    """Ship what belongs to a job; return the stem of its file in `jobs/`, and its text.

    Args:
        given: for a folder without a spec in it: keys of one, such as `command`, `resources`, `image`.

    Raises:
        PfsError: something cannot be shipped, or says two things at once.
    """
    if not what.exists():
        if not is_remote(what):
            raise PfsError(Kind.INVALID, f"there is no {what} here; name a spec, a folder, or a folder below /pfs")
        return name or name_of(what.name), written({"src": str(what), **given})
    spec = spec_in(what)
    if spec is None:
        return _folder(what, name, given, bring)
    check_alone(spec, given)
    text = spec.read_bytes()
    stem = name or (name_of(what.resolve().name) if what.is_dir() else _stem(spec))
    if what.is_dir() and src_of(text) is None:
        return stem, with_src(text, bring(what).src)
    return stem, completed(text, spec.parent, bring)


def completed(text: bytes, base: Path, bring: Bring) -> bytes:
    """Return a spec whose `src`, where that is a folder of this machine, seen from `base`, is shipped."""
    source = _local(base, src_of(text))
    return text if source is None else with_src(text, bring(source).src)


def is_remote(what: Path) -> bool:
    """Tell whether a path is one of a datacenter."""
    return str(what).startswith(REMOTE)


def spec_in(what: Path) -> Path | None:
    """Return the spec that is meant by a file, or by a folder that has one; None for a folder without."""
    if not what.is_dir():
        return what
    return next((what / each for each in SPECS if (what / each).is_file()), None)


def check_alone(spec: Path, given: Mapping[str, object]) -> None:
    """Refuse options beside a spec, which says all of it."""
    if options := [key for key, value in given.items() if value is not None]:
        raise PfsError(Kind.INVALID, f"{spec} says what runs; leave out --{options[0]}, or write it there")


def has_script(done: Shipped, folder: Path) -> bool:
    """Tell whether a folder has a `.compute`, also one that an ignore file leaves out of what was shipped."""
    return SCRIPT in done.names or (folder / SCRIPT).exists()


def check_script(done: Shipped, folder: Path, cure: str) -> None:
    """Refuse a folder that says nowhere what runs."""
    if SCRIPT not in done.names:
        there = "is left out by an ignore file" if (folder / SCRIPT).exists() else "is not there"
        raise PfsError(Kind.INVALID, f"nothing says what runs: {folder / SCRIPT} {there}; write it, or give {cure}")


def _folder(folder: Path, name: str | None, given: Mapping[str, str | None], bring: Bring) -> tuple[str, bytes]:
    done = bring(folder)
    if given.get("command") is None:
        check_script(done, folder, "--command COMMAND, or --entry COMMAND as PaddleCloud has it")
    return name or name_of(folder.resolve().name), written({"src": done.src, **given})


def _stem(spec: Path) -> str:
    return spec.stem if spec.suffix in SUFFIXES else spec.name


def _local(base: Path, src: str | None) -> Path | None:
    """Return the folder of this machine that `src` of a spec in `base` names, if it names one."""
    if src is None or src.startswith((REMOTE, TREE)):
        return None
    path = base / os.path.expanduser(src)
    return path if path.is_dir() else None
