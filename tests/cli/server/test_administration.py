"""What `jobd group`, `jobd alias`, `jobd reserve`, `jobd drain` and `jobd resume` set and tell."""

import getpass
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.jobd import jobd
from cli.server.datacenter import Store
from jobd.store.nodes import Policy
from jobd.store.tables import ClusterRow, NodeRow
from pfs.errors import PfsError

GPUS = [
    {"uuid": f"GPU-{index}", "index": index, "model": "GeForce GTX 1070", "memory_bytes": 8 << 30} for index in (0, 1)
]

Jobd = Callable[..., Result]


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """The accounts ann and bob, and a node with two GPUs."""
    opened = Store(str(root), None, exclusive=False)
    for name in ("ann", "bob"):
        opened.accounts.add_user_now(name, admin=False)

    def node(session) -> None:
        session.add(ClusterRow(id="cl1", owner="", name="The lab", is_default=True))
        for name, gpus in (("n0", GPUS), ("n1", [])):
            who = {"id": f"cm{name}", "entry_id": f"cm{name}", "name": name, "cluster_id": "cl1"}
            session.add(NodeRow(**who, attrs={}, runtimes=[], gpus=gpus, boot_id="b", **TIMES))

    opened.database.write_now(node)
    yield opened
    opened.close()


TIMES = {"registered_at_ns": 1, "seen_at_ns": 1}


@pytest.fixture
def run_jobd(root: Path) -> Jobd:
    def call(command: str, *words: str) -> Result:
        return CliRunner().invoke(jobd, [*command.split(), "--data-root", str(root), *words])

    return call


def refused(result: Result) -> str:
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, PfsError) else result.output


def test_a_group_is_there_while_somebody_is_in_it(run_jobd: Jobd, store: Store, root: Path) -> None:
    assert run_jobd("group add", "research", "bob").output == "research: bob\n"
    assert (root / "groups/research").stat().st_mode & 0o7777 == 0o2770
    assert run_jobd("group add", "research", "ann").output == "research: ann bob\n"
    assert run_jobd("group add", "research", "ann").output == "research: ann bob\n"
    assert store.jobs.policy_now().members == {"ann": {"research"}, "bob": {"research"}}
    assert run_jobd("group remove", "research", "ann").output == "research: bob\n"
    assert "'ann' is not in the group 'research'" in refused(run_jobd("group remove", "research", "ann"))
    assert run_jobd("group remove", "research", "bob").output == "research: nobody\n"
    run_jobd("group add", "art", "ann")
    assert run_jobd("group list").output == "art: ann\nresearch: nobody\n"
    run_jobd("group remove", "art", "ann")
    assert store.jobs.policy_now() == Policy()


def test_a_server_that_starts_makes_the_folders_of_groups_theirs(run_jobd: Jobd, store: Store, root: Path) -> None:
    for name in ("art", "research"):
        run_jobd("group add", name, "ann")
    (root / "groups/art").rmdir()
    (root / "groups/research").chmod(0o700)
    (root / "groups/research/x").touch()
    store.make_group_directories()
    for name in ("art", "research"):
        assert (root / "groups" / name).stat().st_mode & 0o7777 == 0o2770
    assert (root / "groups/research/x").is_file()


def test_nodes_are_drained_and_resumed_by_name_or_id(run_jobd: Jobd, store: Store) -> None:
    by = getpass.getuser()
    assert run_jobd("drain").output == ""
    assert run_jobd("drain", "n0", "new", "disk").output == f"n0: drained by {by}: new disk\n"
    assert run_jobd("drain", "cmn1").output == f"n0: drained by {by}: new disk\nn1: drained by {by}\n"
    assert run_jobd("drain", "n0").output == f"n0: drained by {by}\nn1: drained by {by}\n"
    assert store.jobs.closed_now().keys() == {"cmn0", "cmn1"}
    assert run_jobd("resume", "cmn0").output == f"n1: drained by {by}\n"
    assert run_jobd("resume", "n1").output == ""
    assert run_jobd("resume", "n1").exit_code == 0
    assert "there is no node 'n7'; there are: n0, n1" in refused(run_jobd("drain", "n7"))
    assert "at most 200 characters" in refused(run_jobd("drain", "n0", "x" * 201))


def test_a_group_has_a_name_and_members_that_are_there(run_jobd: Jobd, store: Store) -> None:
    assert "no user 'eve'" in refused(run_jobd("group add", "research", "eve"))
    for name in ("Research", "1a", "a.b", "", "a" * 33, "a/b"):
        assert "cannot be a group" in refused(run_jobd("group add", name, "ann"))
    assert store.jobs.policy_now() == Policy()


def test_a_node_or_one_of_its_gpus_is_reserved_and_freed(run_jobd: Jobd, store: Store) -> None:
    for name in ("research", "teaching"):
        run_jobd("group add", name, "ann")
    assert run_jobd("reserve").output == ""
    assert run_jobd("reserve", "n0:1", "research").output == "n0:1: research\n"
    assert run_jobd("reserve", "n0", "teaching", "research").output == "n0: research teaching\nn0:1: research\n"
    policy = store.jobs.policy_now()
    assert policy.node_groups == {"cmn0": {"research", "teaching"}}
    assert policy.gpu_groups == {"GPU-1": {"research"}}
    assert run_jobd("reserve", "n0", "teaching").output == "n0: teaching\nn0:1: research\n"
    assert run_jobd("reserve", "n0", "--free").output == "n0:1: research\n"
    assert run_jobd("reserve").output == "n0:1: research\n"
    assert run_jobd("reserve", "n0:1", "--free").output == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("n9", "research"), "there is no node 'n9'; there are: n0, n1"),
        (("n0:7", "research"), "has no GPU '7'; it has: 0, 1"),
        (("n1:0", "research"), "has no GPU '0'; it has: none"),
        (("n0", "riders"), "there is no group 'riders'; make it with: jobd group add riders USER"),
        (("n0",), "which groups? Or --free"),
        (("n0", "research", "--free"), "which groups? Or --free"),
    ],
)
def test_what_cannot_be_reserved_is_refused_with_what_to_do(run_jobd: Jobd, store: Store, words, said: str) -> None:
    run_jobd("group add", "research", "ann")
    assert said in refused(run_jobd("reserve", *words))
    assert store.jobs.policy_now().node_groups == {}


def test_an_alias_stands_for_one_model_and_a_model_has_one(run_jobd: Jobd, store: Store) -> None:
    model = GPUS[0]["model"]
    assert run_jobd("alias", "gtx1070", model).output == f"gtx1070: {model}\n"
    assert "has the alias 'gtx1070' already" in refused(run_jobd("alias", "pascal", model))
    said = run_jobd("alias", "gtx1070", "Tesla K80")
    assert said.stdout == "gtx1070: Tesla K80\n"
    assert "No node has a GPU of the model 'Tesla K80' yet; known models: 'GeForce GTX 1070'" in said.stderr
    assert run_jobd("alias", "pascal", model).stdout == f"gtx1070: Tesla K80\npascal: {model}\n"
    assert store.jobs.policy_now().aliases == {"gtx1070": "Tesla K80", "pascal": model}
    assert run_jobd("alias", "gtx1070", "--remove").output == run_jobd("alias").output == f"pascal: {model}\n"
    assert "no alias 'gtx1070'" in refused(run_jobd("alias", "gtx1070", "--remove"))


@pytest.mark.parametrize("words", [("gtx-1070", "x"), ("1070", "x"), ("a", "x", "--remove"), ("a",), ("", "x")])
def test_what_is_no_alias_is_refused(run_jobd: Jobd, store: Store, words: tuple[str, ...]) -> None:
    refused(run_jobd("alias", *words))
    assert store.jobs.policy_now().aliases == {}
