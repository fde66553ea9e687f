"""Several changes of the tree in one message: what each of them is, how they travel, and how they are made.

A batch is made in its order, one step after the other. Each has its own outcome: one that is refused does not keep
the later ones from being tried, so whoever asks puts together only what may fail each for itself.

    {"steps": [{"verb": "make_file", "path": …, "mode": …, "changes": {…}, "size": 12}, …]}    body: their bytes
    {"outcomes": [{"attr": {…}}, {"error": {…}}, {}, …]}                                       one for each step
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from pfs.api import Attr, Changes, FileSystem, LeasingFileSystem, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from pfs.protocol.wire import Json, decode_attr, decode_changes, decode_error, encode_attr, encode_changes, encode_error

STEPS_MAX = 1024
MODE_MAX = 0o7777
NO_CHANGES = Changes()


class Verb(StrEnum):
    """What a step does."""

    MAKE_FILE = "make_file"
    OVERWRITE = "overwrite"  # gives a file that is there other content
    MKDIR = "mkdir"
    SYMLINK = "symlink"
    UNLINK = "unlink"
    RMDIR = "rmdir"
    RENAME = "rename"
    SETATTR = "setattr"


class Step(NamedTuple):
    """One change.

    Attributes:
        path: of what is changed.
        target: where a link leads, or the new path of a rename.
        mode: of what is made.
        data: all bytes of a file.
        changes: of attributes; of what is made or overwritten, after that.
        no_replace: a rename is refused where the new name is taken.
    """

    verb: Verb
    path: str
    target: str = ""
    mode: int = 0
    data: bytes = b""
    changes: Changes = NO_CHANGES
    no_replace: bool = False


Outcome = Attr | PfsError | None  # what it has become, what was refused, or done and nothing to tell


class BatchingFileSystem(LeasingFileSystem, Protocol):
    """A file system whose server makes several changes in one message."""

    async def batch(self, steps: Sequence[Step]) -> Sequence[Outcome]:
        """Make changes in their order; return what came of each.

        Raises:
            PfsError: UNREACHABLE or TIMED_OUT where that is not known of any of them.
        """


async def take_step(filesystem: FileSystem, step: Step) -> Attr | None:
    """Make one change.

    Returns:
        What was made or changed; None for what is gone or was only moved.

    Raises:
        PfsError: what the tree refuses with.
    """
    match step.verb:
        case Verb.MAKE_FILE:
            return await filesystem.make_file(step.path, step.mode, step.data, step.changes)
        case Verb.OVERWRITE:
            return await _overwrite(filesystem, step)
        case Verb.MKDIR:
            return await filesystem.mkdir(step.path, step.mode)
        case Verb.SYMLINK:
            return await filesystem.symlink(step.path, step.target)
        case Verb.UNLINK:
            await filesystem.unlink(step.path)
        case Verb.RMDIR:
            await filesystem.rmdir(step.path)
        case Verb.RENAME:
            mode = RenameMode.NO_REPLACE if step.no_replace else RenameMode.REPLACE
            await filesystem.rename(step.path, step.target, mode)
        case Verb.SETATTR:
            return await filesystem.setattr(step.path, step.changes)
    return None


async def _overwrite(filesystem: FileSystem, step: Step) -> Attr:
    file = await filesystem.open(step.path, OpenFlags.WRITE | OpenFlags.TRUNCATE, 0)
    try:
        if step.data:
            await file.write(0, step.data)
        if step.changes != NO_CHANGES:
            await file.setattr(step.changes)
        return await file.getattr()
    finally:
        await file.release()


async def take_steps(filesystem: FileSystem, steps: Sequence[Step]) -> list[Outcome]:
    """Make changes in their order; return what came of each."""
    outcomes: list[Outcome] = []
    for step in steps:
        try:
            outcomes.append(await take_step(filesystem, step))
        except PfsError as error:
            outcomes.append(error)
    return outcomes


# ---- on the wire


def encode_steps(steps: Sequence[Step]) -> tuple[Json, bytes]:
    """Return steps as arguments and bytes."""
    return {"steps": [encode_step(step) for step in steps]}, b"".join(step.data for step in steps)


def encode_step(step: Step) -> Json:
    """Return one step in JSON; its bytes travel beside it."""
    found: Json = {"verb": step.verb.value, "path": step.path, "mode": step.mode}
    if step.target:
        found["target"] = step.target
    if step.data:
        found["size"] = len(step.data)
    if step.changes != NO_CHANGES:
        found["changes"] = encode_changes(step.changes)
    if step.no_replace:
        found["no_replace"] = True
    return found


def decode_steps(args: Json, body: bytes) -> list[Step]:
    """Return the steps in a message.

    Raises:
        PfsError: INVALID for what is none.
    """
    steps = args.get("steps")
    if not isinstance(steps, list) or len(steps) > STEPS_MAX:
        raise PfsError(Kind.INVALID, f"a batch is a list of at most {STEPS_MAX} steps")
    found: list[Step] = []
    offset = 0
    for each in steps:
        size = each.get("size", 0) if isinstance(each, dict) else None
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(body) - offset:
            raise PfsError(Kind.INVALID, "a step without a proper size")
        found.append(decode_step(each, body[offset : offset + size]))
        offset += size
    return found


def decode_step(value: Json, data: bytes) -> Step:
    """Return one step in JSON; raises as `decode_steps`."""
    try:
        path, target, mode = value["path"], value.get("target", ""), value["mode"]
        if not isinstance(path, str) or not isinstance(target, str):
            raise ValueError("path")
        if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= MODE_MAX:
            raise ValueError("mode")
        changes = decode_changes(value.get("changes", {}))
        return Step(Verb(value["verb"]), path, target, mode, data, changes, value.get("no_replace") is True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"a step without a proper {error}") from None


def encode_outcomes(outcomes: Sequence[Outcome]) -> Json:
    """Return what came of steps in JSON."""
    return {"outcomes": [_encode_outcome(each) for each in outcomes]}


def _encode_outcome(outcome: Outcome) -> Json:
    if isinstance(outcome, PfsError):
        return {"error": encode_error(outcome)}
    return {} if outcome is None else {"attr": encode_attr(outcome)}


def decode_outcomes(result: Json, count: int) -> list[Outcome]:
    """Return what came of `count` steps.

    Raises:
        PfsError: INVALID for what is not that.
    """
    outcomes = result.get("outcomes")
    if not isinstance(outcomes, list) or len(outcomes) != count:
        raise PfsError(Kind.INVALID, f"an answer that has not {count} outcomes")
    return [_decode_outcome(each) for each in outcomes]


def _decode_outcome(value: Json) -> Outcome:
    if not isinstance(value, dict):
        raise PfsError(Kind.INVALID, "an outcome without a form")
    if "error" in value:
        return decode_error(value["error"])
    return decode_attr(value["attr"]) if "attr" in value else None
