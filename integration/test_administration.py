"""What administrators decide while the server runs: it takes that up at once."""

import os
import subprocess
from pathlib import Path

import pytest

from integration.box import WAIT_S, Box, box, wait_until
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


def test_aliases_groups_reservations_and_removals_hold_from_the_moment_they_are_made() -> None:
    with box() as world:
        world.start_server()
        world.start_node("n0", None, "--max-processes", "1")
        config = jobd(world, "adduser", "ann").partition("once:")[2]
        token = config.split("token: ")[1].split()[0]
        Path(world.env["PADDLE_CONFIG"]).write_text(config)
        world.mount()  # as ann
        with WebClient(world.url, world.token) as demo, WebClient(world.url, token) as ann:
            jobd(world, "alias", "gtx1070", "GeForce GTX 1070")
            wait_until(lambda: [entry["name"] for entry in demo.list("aliases")] == ["gtx1070"])
            assert demo.read("aliases/gtx1070") == b"GeForce GTX 1070\n"

            jobd(world, "group add", "research", "ann")
            shared = submit(demo, "shared", "{command: x, hold: true}\n")
            demo.write(f"{shared}/ctl", b"share research\n")
            demo.write("groups/research/x", b"for all of us\n")
            assert os.path.samefile(world.dc / "home/me", world.dc / "home/ann")
            wait_until((world.dc / "groups/research/x").is_file)
            assert (world.dc / "groups/research/x").read_text() == "for all of us\n"
            assert (world.dc / shared / "state").read_text() == "WAITING\n"
            kept_open = (world.dc / "groups/research/x").open()
            assert kept_open.read(4) == "for "
            following = subprocess.Popen(["cat", str(world.dc / shared / "log")], stderr=subprocess.DEVNULL)

            assert jobd(world, "reserve", "n0", "research") == "n0: research\n"
            wait_until(lambda: b"\ngroups research\n" in demo.read("nodes/n0/status"))
            with pytest.raises(PfsError, match="research"):
                submit(demo, "a", "command: x\n")

            first = submit(ann, "first", "command: sleep 600\n")
            wait_until(lambda: ann.read(f"{first}/state") == b"RUNNING\n")
            second = submit(ann, "second", "command: x\n")
            assert ann.read(f"{second}/state") == b"WAITING\n"
            jobd(world, "quota", "ann", "--jobs-running", "1")
            wait_until(lambda: b"ann's quota has 1 of 1 jobs running" in ann.read(f"{second}/why"))
            jobd(world, "quota", "ann", "--jobs-running", "none")
            jobd(world, "group remove", "research", "ann")
            wait_until(lambda: ann.read(f"{second}/state") == b"CANCELLED\n")
            assert b"research" in ann.read(f"{second}/why")
            assert ann.read(f"{first}/state") == b"RUNNING\n"
            for lost in ("groups/research/x", "groups/research", shared):
                wait_until(lambda lost=lost: not (world.dc / lost).exists())
            with kept_open, pytest.raises(OSError, match=r"No such file|Stale"):
                os.pread(kept_open.fileno(), 4, 0)
            assert following.wait(timeout=WAIT_S) == 1
            world.umount()

            jobd(world, "reserve", "n0", "--free")
            third = submit(demo, "third", "command: 'true'\n")
            assert demo.read(f"{third}/state") == b"WAITING\n"
            demo.write(f"{first}/ctl", b"kill\n")
            wait_until(lambda: demo.read(f"{third}/state") == b"SUCCEEDED\n")

            fourth = submit(ann, "fourth", "command: sleep 600\n")
            wait_until(lambda: demo.read(f"{fourth}/state") == b"RUNNING\n")

            def follow_while_ann_is_removed() -> None:
                with ann.stream(f"{fourth}/log") as followed:
                    jobd(world, "user remove", "ann")
                    b"".join(followed)

            with pytest.raises(PfsError, match="no answer"):  # it is cut
                follow_while_ann_is_removed()
            with pytest.raises(PfsError, match="does not know this token"):
                ann.read("me")
            wait_until(lambda: demo.read(f"{fourth}/state") == b"CANCELLED\n")
            assert [path.name.partition(".")[0] for path in (world.data / "home/.trash").iterdir()] == ["ann"]
            refused = world.run("jobd", "adduser", "--data-root", str(world.data), "ann")
            assert (refused.returncode, "jobs tell of them" in refused.stderr) == (1, True)
