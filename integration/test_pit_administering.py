"""What administrators decide with `pit`, from anywhere, holds when the command is done: for users, nodes and jobs."""

import re
import shlex
import subprocess
from pathlib import Path

from integration.box import BIN, Box, box, wait_until

PASSWORD, OTHER = "four words that nobody has", "correct horse battery staple"


def pit(world: Box, folder: Path, *words: str, typed: str = "", status: int = 0) -> str:
    """Run pit in somebody's folder; return what it prints, or where it fails what it says of that."""
    command, env = [str(BIN / "pit"), *words], {**world.env, "PIT_CONFIG_DIR": str(world.root / "nowhere")}
    ran = subprocess.run(
        command, cwd=folder, env=env, input=typed, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == status, ran.stderr
    return ran.stderr.strip().rpartition("? ")[2] if status else ran.stdout


def people(world: Box) -> tuple[Path, Path]:
    """Make a folder for demo, who is there, and one for ann, who is not yet."""
    folders = world.root / "demo", world.root / "ann"
    for folder in folders:
        folder.mkdir()
        (folder / ".pitconnect.txt").write_text((world.root / ".pitconnect.txt").read_text())
    (folders[0] / ".pituser.txt").write_text((world.root / ".pituser.txt").read_text())
    return folders


def start_node(world: Box, printed: str, *options: str) -> None:
    """Start the node as `pit add node:n7` says, with its state in the box."""
    [line] = re.findall(r"^    (gradient-node .*)$", printed, re.MULTILINE)
    program, *words = shlex.split(line)
    state = ["--state-dir", str(world.root / "state-n7"), "--data-root", str(world.data)]
    world.spawn("n7", program, *words, *state, *options)


def test_users_groups_and_passwords() -> None:
    with box() as world:
        world.start_server()
        demo, ann = people(world)
        typed = f"Ann Example\nann@example.org\n{PASSWORD}\n{PASSWORD}\n"
        assert pit(world, demo, "add", "user:ann", typed=typed) == ""
        assert pit(world, demo, "add", "group:research", "title=All of us") == ""
        assert pit(world, demo, "add-group", "user:ann", "research") == ""
        told = pit(world, ann, "show", "me", typed=f"ann\n{PASSWORD}\n")
        assert told.splitlines() == [
            "Username:         ann",
            "Full name:        Ann Example",
            "E-Mail address:   ann@example.org",
            "Groups:           research",
            "Is administrator: no",
        ]
        assert pit(world, ann, "set", "me", "autoshare=research") == ""
        assert pit(world, ann, "get", "me", "autoshare") == '["research"]\n'
        assert pit(world, ann, "ls", "group:research") == ""
        assert "for administrators" in pit(world, ann, "add", "group:mine", "title=", status=1)
        assert "User not found" in pit(world, ann, "rm", "user:demo", status=1)

        typed = f"wrong\n{OTHER}\n{OTHER}\n"
        assert "not your own password" in pit(world, ann, "passwd", typed=typed, status=1)
        assert pit(world, ann, "passwd", typed=f"{PASSWORD}\n{OTHER}\n{OTHER}\n") == ""
        assert pit(world, ann, "get", "me", "id") == "ann\n"

        assert pit(world, demo, "remove-group", "user:ann", "research") == ""
        assert pit(world, ann, "show", "groups") == "research\n"
        assert pit(world, ann, "get", "group:research", "title") == "All of us\n"
        assert pit(world, ann, "get", "group:research", "members") == "undefined\n"
        assert pit(world, demo, "rm", "group:research") == ""
        assert pit(world, demo, "show", "groups") == ""
        assert pit(world, ann, "rm", "me", typed="N\n") == ""
        assert pit(world, ann, "rm", "me", typed="y\n") == ""
        assert "User not found" in pit(world, demo, "rm", "user:ann", status=1)
        assert "Unable to authenticate" in pit(world, ann, "show", "me", typed=f"{OTHER}\n", status=1)
        assert pit(world, demo, "show", "users") == "demo\n"
        assert "only administrator" in pit(world, demo, "set", "me", "admin=no", status=1)


def test_a_node_joins_is_reserved_and_removed_and_what_it_was_let_in_with_is_good_no_more() -> None:
    with box() as world:
        world.start_server()
        demo, _ = people(world)
        start_node(world, pit(world, demo, "add", "node:n7"))
        wait_until(lambda: pit(world, demo, "show", "nodes") == "n7\n")
        assert "already registered" in pit(world, demo, "add", "node:n7", status=1)

        assert pit(world, demo, "add", "group:research", "title=") == ""
        assert pit(world, demo, "add-group", "node:n7", "research") == ""
        assert "research" in pit(world, demo, "run", "x", "[]", "-d", "true", status=1)
        assert pit(world, demo, "add-group", "me", "research") == ""
        pit(world, demo, "run", "x", "[]", "-d", "true", "-l")
        assert pit(world, demo, "add-group", "job:1", "research") == ""
        assert pit(world, demo, "get", "job:1", "groups") == '["research"]\n'
        assert pit(world, demo, "remove-group", "job:1", "research") == ""
        assert pit(world, demo, "rm", "job:1") == ""
        assert "Job not found" in pit(world, demo, "show", "1", status=1)

        assert "is connected" in pit(world, demo, "rm", "node:n7", status=1)
        world.end("n7")
        wait_until(lambda: _removes(world, demo))
        assert pit(world, demo, "show", "nodes") == ""
        world.spawn("n7", "gradient-node", "--state-dir", str(world.root / "state-n7"), "--apiHost", world.url)
        assert world.processes["n7"].wait(timeout=120) != 0
        assert pit(world, demo, "show", "nodes") == ""


def _removes(world: Box, folder: Path) -> bool:
    """Remove the node, once the server has seen that it is away."""
    command = [str(BIN / "pit"), "rm", "node:n7"]
    return subprocess.run(command, cwd=folder, env=world.env, capture_output=True, check=False).returncode == 0
