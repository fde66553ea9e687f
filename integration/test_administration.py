"""What administrators decide while the server runs: it takes that up at once."""

import os

import pytest

from integration.box import Box, box, wait_until
from pfs.client.web import WebClient
from pfs.errors import PfsError


def jobd(world: Box, command: str, *words: str) -> str:
    done = world.run("jobd", *command.split(), "--data-root", str(world.data), *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def submit(client: WebClient, name: str, text: str) -> str:
    job = client.put(f"jobs/{name}.yaml", text.encode(), os.urandom(8).hex())
    assert job is not None
    return job


def test_aliases_groups_and_reservations_hold_from_the_moment_they_are_made() -> None:
    with box() as world:
        world.start_server()
        world.start_node("n0", None, "--max-processes", "1")
        token = jobd(world, "adduser", "ann").split("token: ")[1].split()[0]
        with WebClient(world.url, world.token) as demo, WebClient(world.url, token) as ann:
            jobd(world, "alias", "gtx1070", "GeForce GTX 1070")
            wait_until(lambda: [entry["name"] for entry in demo.list("aliases")] == ["gtx1070"])
            assert demo.read("aliases/gtx1070") == b"GeForce GTX 1070\n"

            jobd(world, "group add", "research", "ann")
            assert jobd(world, "reserve", "n0", "research") == "n0: research\n"
            wait_until(lambda: b"\ngroups research\n" in demo.read("nodes/n0/status"))
            with pytest.raises(PfsError, match="research"):
                submit(demo, "a", "command: x\n")

            first = submit(ann, "first", "command: sleep 600\n")
            wait_until(lambda: ann.read(f"{first}/state") == b"RUNNING\n")
            second = submit(ann, "second", "command: x\n")
            assert ann.read(f"{second}/state") == b"WAITING\n"
            jobd(world, "group remove", "research", "ann")
            wait_until(lambda: ann.read(f"{second}/state") == b"CANCELLED\n")
            assert b"research" in ann.read(f"{second}/why")
            assert ann.read(f"{first}/state") == b"RUNNING\n"

            jobd(world, "reserve", "n0", "--free")
            third = submit(demo, "third", "command: 'true'\n")
            assert demo.read(f"{third}/state") == b"WAITING\n"
            demo.write(f"{first}/ctl", b"kill\n")
            wait_until(lambda: demo.read(f"{third}/state") == b"SUCCEEDED\n")
