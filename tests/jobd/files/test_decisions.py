"""What administrators decide by writing into the tree: for whom nodes are, what names stand for, and who is gone."""

import pytest
from sqlmodel import Session

from jobd.engine.roster import changed
from pfs.accounts.store import Key
from pfs.audit.origin import acting
from pfs.errors import Kind, PfsError
from pfs.perm import Scope, Subject
from tests.jobd.conftest import Link
from tests.jobd.engine.drive import driving
from tests.pfs.world import kind_of

from .test_audited import recorded
from .test_clusters import names, said, tell

GPUS = [{"uuid": f"GPU-{number}", "index": number, "model": "GTX 1070", "memory_bytes": 8 << 30} for number in range(2)]

REFUSED = (Kind.FORBIDDEN, Kind.DENIED)


@pytest.fixture
def tree(service, run):
    """Run an async test with a drive in which the node n0 has two GPUs, and the tree as ann and as root see it."""

    def within(main):
        async def outer():
            for group in ("ml", "hr"):
                service.accounts.join_now(group, "ann")
            async with driving(service) as drive:
                await drive.engine.take_up_policy()
                row = changed(service.node(), gpus=GPUS, instance="machine")
                link = Link()
                await drive.engine.attach(row, link, [])
                await main(drive, link, *(service.files(drive.engine, who) for who in (service.ann, service.admin)))

        run(outer)

    return within


def policy(service) -> tuple[dict, dict]:
    found = service.store.policy_now()
    return dict(found.node_groups), dict(found.gpu_groups)


def test_a_node_and_gpus_of_it_are_reserved_for_one_group_after_the_other(tree, service):
    async def main(drive, link, ann, root):
        await tell(root, "nodes/n0/ctl", "reserve ml\nreserve hr\n")
        await tell(root, "nodes/n0/ctl", "reserve ml 1\n")
        assert policy(service) == ({"cmn0": {"ml", "hr"}}, {"GPU-1": {"ml"}})
        assert "groups hr ml" in await said(ann, "nodes/n0/status")
        assert await said(ann, "nodes/n0/gpus/1/groups") == "ml\n"
        await tell(root, "nodes/n0/ctl", "unreserve hr\n")
        assert policy(service) == ({"cmn0": {"ml"}}, {"GPU-1": {"ml"}})
        await tell(root, "nodes/n0/ctl", "unreserve ml 1\n")
        assert policy(service) == ({"cmn0": {"ml"}}, {})

    tree(main)


def test_who_has_no_say_over_a_node_has_none_over_its_gpus_either(tree, service):
    async def main(drive, link, ann, root):
        await tell(root, "nodes/n0/ctl", "reserve ml\nreserve ml 0 1\n")
        await tell(root, "nodes/n0/ctl", "unreserve ml\n")
        assert policy(service) == ({}, {})

    tree(main)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("reserve nobody", Kind.NOT_FOUND, "there is no group 'nobody'"),
        ("reserve ml 7", Kind.NOT_FOUND, "no GPU 7; it has: 0, 1"),
        ("reserve ml x", Kind.INVALID, "'x' is no number of a GPU"),
        ("reserve", Kind.INVALID, "reserve takes a group"),
        ("unreserve", Kind.INVALID, "unreserve takes a group"),
        ("reserve Ml", Kind.INVALID, "cannot be a group"),
    ],
)
def test_what_cannot_be_reserved_is_refused(tree, service, text, kind, says):
    async def main(drive, link, ann, root):
        with pytest.raises(PfsError, match=says) as caught:
            await tell(root, "nodes/n0/ctl", text)
        assert caught.value.kind is kind
        assert policy(service) == ({}, {})

    tree(main)


def test_nobody_else_says_for_whom_nodes_are(tree, service):
    async def main(drive, link, ann, root):
        for text in ("reserve ml\n", "unreserve ml\n"):
            assert await kind_of(tell(ann, "nodes/n0/ctl", text)) is Kind.FORBIDDEN
        assert policy(service) == ({}, {})

    tree(main)


def test_jobs_are_shared_with_a_group_that_is_gone_no_more(tree, service):
    async def main(drive, link, ann, root):
        job = await drive.submit("command: x\n")
        await tell(root, f"jobs/{job}/ctl", "share ml hr\n")
        await drive.engine.ledger.keep_shares(frozenset({"hr"}))
        assert "groups hr\n" in await said(ann, f"jobs/{job}/status")
        mel = service.files(drive.engine, Subject("mel", groups=frozenset({"ml"})))
        assert await kind_of(mel.listdir(f"jobs/{job}")) is Kind.NOT_FOUND

    tree(main)


# ---- aliases


def test_an_alias_is_a_file_that_administrators_write_and_remove(tree, service):
    async def main(drive, link, ann, root):
        await root.put("aliases/gtx", b"GTX 1070\n", None)
        assert await said(ann, "aliases/gtx") == "GTX 1070\n"
        assert await said(ann, "nodes/n0/gpus/0/alias") == "gtx\n"
        await tell(root, "aliases/gtx", "Tesla K80\n")
        assert service.store.policy_now().aliases == {"gtx": "Tesla K80"}
        await root.unlink("aliases/gtx")
        assert await names(ann, "aliases") == []
        assert service.store.policy_now().aliases == {}

    tree(main)


def test_nobody_else_writes_or_removes_an_alias(tree, service):
    async def main(drive, link, ann, root):
        reader = service.files(drive.engine, Subject("root", scopes=frozenset({Scope.READ})))
        await root.put("aliases/gtx", b"GTX 1070", None)
        for fs in (ann, reader):
            assert await kind_of(fs.put("aliases/gtx", b"x", None)) in REFUSED
            assert await kind_of(fs.put("aliases/new", b"x", None)) in REFUSED
            assert await kind_of(tell(fs, "aliases/gtx", "x")) in REFUSED
            assert await kind_of(fs.unlink("aliases/gtx")) in REFUSED
        assert service.store.policy_now().aliases == {"gtx": "GTX 1070"}

    tree(main)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("gtx-1070", b"GTX 1070", Kind.INVALID),
        ("1070", b"GTX 1070", Kind.INVALID),
        ("gtx", b"\n", Kind.INVALID),
        ("gtx", b"one\ntwo", Kind.INVALID),
        ("gtx", b"\xff", Kind.INVALID),
        ("gtx", b"x" * 1025, Kind.INVALID),
        ("other", b"Tesla K80", Kind.EXISTS),
    ],
)
def test_what_is_no_alias_is_refused(tree, service, name, text, kind):
    async def main(drive, link, ann, root):
        await root.put("aliases/k80", b"Tesla K80", None)
        assert await kind_of(root.put(f"aliases/{name}", text, None)) is kind
        assert await kind_of(root.unlink("aliases/none")) is Kind.NOT_FOUND
        assert service.store.policy_now().aliases == {"k80": "Tesla K80"}

    tree(main)


# ---- nodes that are gone


def key_of_machine(session: Session) -> None:
    session.add(
        Key(fingerprint="f" * 64, kind="node", user="root", created_at_ns=1, label="n0", scopes="", machine="machine")
    )


def test_a_node_that_is_away_is_removed_with_its_own_key_and_all_that_was_decided_about_it(tree, service):
    async def main(drive, link, ann, root):
        service.database.write_now(key_of_machine)
        await tell(root, "nodes/n0/ctl", "reserve ml\nreserve hr 1\ndrain\n")
        drive.engine.detach("cmn0", link)
        before, told = len(recorded(service)), []

        async def hear() -> None:
            told.append(service.store.nodes_now())

        drive.engine.roster.revoked = hear
        with acting("root", "10.0.0.7"):
            await root.rmdir("nodes/n0")
        assert told == [[]]
        assert await names(root, "nodes") == []
        assert service.store.nodes_now() == []
        assert policy(service) == ({}, {})
        assert service.database.read_now(lambda session: session.get(Key, "f" * 64)) is None
        assert recorded(service)[before:] == [
            "root token.revoke users/root/keys/ffffffffffff done why=node",
            "root node.remove nodes/cmn0 done",
        ]

    tree(main)


def test_a_node_that_is_connected_or_has_jobs_stays(tree, service):
    async def main(drive, link, ann, root):
        with pytest.raises(PfsError, match="connected: end gradient-node there first") as caught:
            await root.rmdir("nodes/n0")
        assert caught.value.kind is Kind.BUSY
        await drive.submit("command: x\n")
        await link.heard.wait()
        drive.engine.detach("cmn0", link)
        with pytest.raises(PfsError, match="jobs are still on the node n0") as caught:
            await root.rmdir("nodes/n0")
        assert caught.value.kind is Kind.BUSY
        assert await names(root, "nodes") == ["n0"]

    tree(main)


def test_a_node_is_removed_by_whose_it_is_and_nobody_else(tree, service):
    async def main(drive, link, ann, root):
        own = changed(service.node("n9"), owner="ann")
        own_link = Link()
        await drive.engine.attach(own, own_link, [])
        for node, each in (("cmn0", link), ("cmn9", own_link)):
            drive.engine.detach(node, each)
        assert await kind_of(ann.rmdir("nodes/n0")) is Kind.FORBIDDEN
        assert await kind_of(ann.rmdir("nodes/none")) is Kind.NOT_FOUND
        await ann.rmdir("nodes/n9")
        assert await names(root, "nodes") == ["n0"]

    tree(main)
