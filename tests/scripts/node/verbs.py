"""`start`: each line is a start of gradient-node, variables first; what it shall do, or its one line and its status.

`home`: what `~/.paperspace/config.json` holds from here on; by nothing it is gone. KEY, OTHER and THIRD stand for keys.
"""

import os
import re
import shlex
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from cli.errors import STATUS_OF_KIND
from cli.node.options import PROGRAM, parse, settings_of
from pfs.errors import PfsError
from pfs.keys import make_key
from tests.golden import Handler, Step

KEYS = {name: make_key("https://dc1:8470", name) for name in ("KEY", "OTHER", "THIRD")}


def start() -> Handler:
    configuration = ""

    def handle(step: Step) -> str:
        nonlocal configuration
        if step.words == ("home",):
            configuration = _with_keys(step.text)
            return ""
        assert step.words == ("start",)
        with home(configuration) as path:
            return "\n".join(f"{line} → {_answer(line)}" for line in step.text.splitlines()).replace(path, "~")

    return handle


@contextmanager
def home(configuration: str) -> Iterator[str]:
    """Give the path of a home directory, which is the present one while the block runs."""
    before = os.environ["HOME"]
    with tempfile.TemporaryDirectory() as path:
        if configuration:
            Path(path, ".paperspace").mkdir()
            Path(path, ".paperspace/config.json").write_text(configuration)
        os.environ["HOME"] = path
        try:
            yield path
        finally:
            os.environ["HOME"] = before


def _with_keys(text: str) -> str:
    return re.sub(rf"\b({'|'.join(KEYS)})\b", lambda found: KEYS[found[0]], text)


def _answer(line: str) -> str:
    words = shlex.split(_with_keys(line))
    env: dict[str, str] = {}
    while words and "=" in words[0] and not words[0].startswith("-"):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    try:
        found = _settings(words, env)
    except PfsError as error:
        return f"{PROGRAM}: {error} ({STATUS_OF_KIND.get(error.kind, 1)})"
    default = _settings(["--apiKey", KEYS["KEY"]], {})
    return (
        ", ".join(f"{name}: {_shown(value)}" for name, value in found.items() if value != default[name]) or "as usual"
    )


def _settings(words: list[str], env: Mapping[str, str]) -> dict[str, object]:
    found = settings_of(parse([*words, "--data-root", "/data"]), env)
    return {**asdict(found), "mounts": found.mounts}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    keys = {key: name for name, key in KEYS.items()}
    text = keys.get(str(value), str(value))
    return "the host name" if text == socket.gethostname() else text or "none"
