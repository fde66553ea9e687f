"""What `pit show` prints of what the tree tells."""

from typing import Any

import pytest

from cli.pitshow import show
from pfs.errors import Kind, PfsError

STATUS = """\
id 17
title First light
user ann
state {state}
why it ended
request [2:gtx1070]
{more}submitted 2026-01-01T00:00:00Z
"""


class Tree:
    """A tree of these files."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def read(self, path: str) -> bytes:
        if path not in self.files:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return self.files[path].encode()

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        below = [name.removeprefix(f"{path}/") for name in self.files if name.startswith(f"{path}/")]
        names = dict.fromkeys(name.split("/")[0] for name in below)
        if not names:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return [{"name": name, "each": self.files.get(f"{path}/{name}/{each}")} for name in names]


def test_me() -> None:
    assert show(Tree({"me": "name tilman\nadmin yes\ngroups a b\n"}), "me").splitlines() == [
        "Username:         tilman",
        "Groups:           a b",
        "Is administrator: yes",
    ]
    assert show(Tree({"me": "name ann\nadmin no\ngroups\n"}), "user:~").splitlines() == [
        "Username:         ann",
        "Is administrator: no",
    ]


def test_a_node_with_its_gpus() -> None:
    files = {"nodes/n0/status": "name n0\nstate ONLINE\ngpus 2\n"}
    for number, alias, groups in ((0, "gtx1070\n", ""), (1, "", "a\nb\n")):
        gpu = f"nodes/n0/gpus/{number}"
        files |= {f"{gpu}/model": "GeForce GTX 1070\n", f"{gpu}/alias": alias, f"{gpu}/groups": groups}
    assert show(Tree(files), "node:n0").splitlines() == [
        "Node name: n0",
        "State:     ONLINE",
        "Resources: ",
        '  0: "GeForce GTX 1070" aka "gtx1070" (cuda 0)',
        '  1: "GeForce GTX 1070" (cuda 1) - Groups: a b',
    ]
    assert show(Tree(files), "nodes") == "n0"


def test_a_node_that_is_away_and_has_no_gpus() -> None:
    tree = Tree({"nodes/n1/status": "name n1\nstate UNKNOWN\nheard 2026-01-01T00:00:00Z\ngpus 0\n"})
    assert show(tree, "node:n1").splitlines() == [
        "Node name: n1",
        "State:     OFFLINE",
        "Since:     2026-01-01T00:00:00Z",
        "Resources: ",
    ]


def test_a_job_that_waits() -> None:
    tree = Tree({"jobs/17/status": STATUS.format(state="WAITING", more="queue_place 3\ncontinue 12\n")})
    assert show(tree, "job:17").splitlines() == [
        "Job number:    17",
        "Continued job: 12",
        "Title:         First light",
        "Owner:         ann",
        'Resources:     "[2:gtx1070]"',
        "State:         WAI (position 3)",
        "State changes: ",
        "  NEW: 2026-01-01T00:00:00Z",
    ]


def test_a_job_that_is_over() -> None:
    more = (
        "place n0[cuda 0-1]\nstarted 2026-01-01T00:01:00Z\nended 2026-01-01T00:02:00Z\n"
        "remote origin https://example.org/x\nhash abc\ndiff_lines 3\n"
    )
    files = {
        "jobs/17/status": STATUS.format(state="FAILED", more=more),
        "jobs/17/processes/0.0/exit_code": "0\n",
        "jobs/17/processes/0.0/result": "0.97\n\x1b[31m\n",
        "jobs/17/processes/1.2/state": "CANCELLED\n",
    }
    assert show(Tree(files), "17").splitlines()[3:] == [
        'Error:         "it ended"',
        "Remote:        origin https://example.org/x",
        "Hash:          abc",
        "Diff LoC:      3",
        'Resources:     "[2:gtx1070]"',
        "Allocation:    n0[cuda 0-1]",
        "State:         FIN",
        "Processes:     ",
        "  [0, 0]: Status code: 0 - 0.97 ?[31m",
        "  [1, 2]: Status code: ?",
        "State changes: ",
        "  NEW: 2026-01-01T00:00:00Z",
        "  RUN: 2026-01-01T00:01:00Z",
        "  FIN: 2026-01-01T00:02:00Z",
    ]


def test_lists_and_aliases() -> None:
    tree = Tree({"jobs/10/status": "", "jobs/9/status": "", "jobs/first": "", "aliases/gtx1070": "GeForce GTX 1070\n"})
    assert show(tree, "jobs") == "9\n10"
    assert show(tree, "aliases") == "gtx1070"
    assert show(tree, "alias:gtx1070") == "Alias: gtx1070\nFor:   GeForce GTX 1070"


@pytest.mark.parametrize("entity", ["node:n7", "job:99", "alias:none"])
def test_what_is_not_there_is_named(entity: str) -> None:
    with pytest.raises(PfsError, match=f"there is no {entity}"):
        show(Tree({"me": ""}), entity)


@pytest.mark.parametrize("entity", ["nonsense", "me:x", "node:", "job:x", ""])
def test_what_is_no_entity_is_refused_with_those_there_are(entity: str) -> None:
    with pytest.raises(PfsError, match="Unsupported entity type"):
        show(Tree({}), entity)
