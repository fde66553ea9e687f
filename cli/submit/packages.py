"""From a folder or a spec on this machine to the text that is submitted, with what it names shipped.

a folder   all of it is shipped. The spec is its job.yaml; `src` in that is a folder in it, or is put there
a spec     where `src` is a folder of this machine, that is shipped; all else is the server's to understand: a path
           below /pfs, or in one's home there
/pfs/…     a folder of the datacenter, in which the job runs as PaddleCloud's jobs do
"""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from cli.progress import Transfer
from cli.submit.ship import Server, Shipped, ship
from cli.submit.spectext import name_of, src_of, with_src, written
from jobd.manifest import TREE
from jobd.spec.units import format_size
from pfs.errors import Kind, PfsError

SUFFIXES = (".yaml", ".yml", ".json")
SPECS = tuple(f"job{suffix}" for suffix in SUFFIXES)
SCRIPT = ".compute"
REMOTE = "/pfs/"
OWN = ("entry", "resources", "image")


def package(server: Server, what: Path, name: str | None, given: Mapping[str, str | None]) -> tuple[str, bytes]:
    """Ship what belongs to a job; return the stem of its file in `jobs/`, and its text.

    Args:
        given: `OWN` options and fields of PaddleCloud, for a folder without a spec in it.

    Raises:
        PfsError: something cannot be shipped, or says two things at once.
    """
    if not what.exists():
        if not str(what).startswith(REMOTE):
            raise PfsError(Kind.INVALID, f"there is no {what} here; name a spec, a folder, or a folder below /pfs")
        return name or name_of(what.name), _spec({"job_package": str(what)}, given, paddlecloud=True)
    folder = what if what.is_dir() else what.parent
    found = [each for each in SPECS if (folder / each).is_file()] if what.is_dir() else [what.name]
    if not found:
        return _folder(server, folder, name, given)
    if options := [key for key, value in given.items() if value is not None]:
        raise PfsError(Kind.INVALID, f"{folder / found[0]} says what runs; leave out --{options[0]}, or write it there")
    spec = folder / found[0]
    text = spec.read_bytes()
    stem = name or (name_of(folder.resolve().name) if what.is_dir() else _stem(spec))
    source = _local(folder, src_of(text))
    if source is None and what.is_dir() and src_of(text) is None:
        source = folder
    return stem, text if source is None else with_src(text, shipped(server, source).src)


def shipped(server: Server, folder: Path, *, asks_git: bool = True) -> Shipped:
    """Ship a folder, and say how much of it was sent."""
    with Transfer(folder.resolve().name, None) as transfer:
        done = ship(server, folder, asks_git=asks_git, progress=transfer.reach)
    if done.sent_bytes:
        what = f"{done.files:,} files, {format_size(done.size_bytes)}"
        click.echo(f"Shipped {folder}: {what}; {format_size(done.sent_bytes)} were sent", err=True)
    return done


def check_script(done: Shipped, folder: Path, cure: str) -> None:
    """Refuse a folder that says nowhere what runs."""
    if SCRIPT not in done.names:
        there = "is left out by an ignore file" if (folder / SCRIPT).exists() else "is not there"
        raise PfsError(Kind.INVALID, f"nothing says what runs: {folder / SCRIPT} {there}; write it, or give {cure}")


def _folder(server: Server, folder: Path, name: str | None, given: Mapping[str, str | None]) -> tuple[str, bytes]:
    paddlecloud = any(value is not None for key, value in given.items() if key not in OWN)
    done = shipped(server, folder)
    if given.get("entry") is None and not paddlecloud:
        check_script(done, folder, "--entry COMMAND")
    return name or name_of(folder.resolve().name), _spec({"src": done.src}, given, paddlecloud=paddlecloud)


def _spec(files: Mapping[str, str], given: Mapping[str, str | None], *, paddlecloud: bool) -> bytes:
    """Return the spec that options make, in PaddleCloud's words or in ours."""
    words = {key: _number_or_text(value) for key, value in given.items() if key not in OWN}
    command = {"entry" if paddlecloud else "command": given.get("entry")}
    return written({**files, **command, "resources": given.get("resources"), "image": given.get("image"), **words})


def _number_or_text(value: str | None) -> float | str | None:
    if value is None:
        return None
    try:
        return int(value) if value.isdigit() else float(value)
    except ValueError:
        return value


def _stem(spec: Path) -> str:
    return spec.stem if spec.suffix in SUFFIXES else spec.name


def _local(base: Path, src: str | None) -> Path | None:
    """Return the folder of this machine that `src` of a spec in `base` names, if it names one."""
    if src is None or src.startswith((REMOTE, TREE)):
        return None
    path = base / os.path.expanduser(src)
    return path if path.is_dir() else None
