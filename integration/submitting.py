"""Jobs as they stand in a mount: how a test drops one, and which there are."""

import json
import os

from integration.box import Box


def spec_of(command: object, **more: object) -> str:
    """Return the text of a spec."""
    return json.dumps({"command": command, **more}) + "\n"


def submit(world: Box, name: str, text: str) -> str:
    """Drop a job; return its number."""
    (world.dc / "jobs" / f"{name}.yaml").write_text(text)
    return os.readlink(world.dc / "jobs" / name)


def job_numbers(world: Box) -> set[str]:
    """Return the numbers of all jobs that are listed."""
    return {name for name in os.listdir(world.dc / "jobs") if name.isdigit()}
