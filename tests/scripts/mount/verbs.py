"""`options`: each line is a list as behind -o, or why it is none. `status`: JSON is shown as for people."""

import json
from dataclasses import asdict

from cli.mount.options import Options, parse
from cli.mount.status import status_text, waiting_text
from fuseclient.status import Blocks, Rate, Server, Status
from pfs.errors import PfsError
from tests.golden import Handler, Step

SERVER = Server("https://dc1:8470", True, 7260.0, 5, Rate(1, 1), Rate(0, 0), Rate(0, 0), 0, 0, 0, 0)
STATUS = Status("1.0", 4711, 90.0, "", 0, 2, 0, 0, {"dc1": SERVER}, None)


def start() -> Handler:
    def handle(step: Step) -> str:
        if step.words == ("options",):
            return "\n".join(f"{line} → {_parsed(line)}" for line in step.text.splitlines())
        assert step.words == ("status",)
        return _status(json.loads(step.text or "{}"))

    return handle


def _parsed(line: str) -> str:
    try:
        found = asdict(parse([line]))
    except PfsError as error:
        return str(error)
    default = asdict(Options())
    return (
        ", ".join(f"{name}: {_shown(found[name])}" for name in found if found[name] != default[name]) or "the default"
    )


def _shown(value: object) -> str:
    return " ".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def _status(changed: dict[str, object]) -> str:
    """Show a status that differs from a plain one: a key that begins with a dot belongs to the server."""
    found = asdict(STATUS)
    for key, value in changed.items():
        (found["servers"]["dc1"] if key.startswith(".") else found)[key.removeprefix(".")] = value
    status = Status.decode(json.dumps(found).encode())
    assert isinstance(status.blocks, Blocks | None)
    waiting = waiting_text(status)
    return status_text("/home/ann/pfs", status) + (f"\numount: {waiting}" if waiting else "")
