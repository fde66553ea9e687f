"""`clusters/`, and nodes with several instances, as files."""

from dataclasses import replace

import pytest

from jobd.engine.roster import changed
from pfs.api import Closing, OpenFlags
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import CLUSTER, Link
from tests.jobd.engine.drive import driving

from .test_drafts import text_of

ATTIC = replace(CLUSTER, id="cl2", name="Attic", is_default=False)
OWN = replace(CLUSTER, id="cl3", owner="ann")


@pytest.fixture
def tree(service, run):
    """Run an async test with a drive in which three clusters have nodes, and the tree as ann and root see it."""

    def within(main):
        async def outer():
            for made in (ATTIC, OWN):
                await service.store.save_nodes([], made)
            async with driving(service) as drive:
                for who in (
                    {"id": "cm1", "entry_id": "cm1", "name": "n0"},
                    {"id": "cm1.2", "entry_id": "cm1", "name": "n0", "gpus": [GPU]},
                    {"id": "cm2", "entry_id": "cm2", "name": "n1", "cluster_id": "cl2"},
                    {"id": "cm3", "entry_id": "cm3", "name": "n1", "cluster_id": "cl3", "owner": "ann"},
                ):
                    await drive.engine.attach(changed(service.node(), **who), Link(), [])
                await main(*(service.files(drive.engine, who) for who in (service.ann, service.admin)))

        run(outer)

    return within


GPU = {"uuid": "GPU-0", "index": 0, "model": "GTX 1070", "memory_bytes": 8 << 30}


async def said(fs, path: str) -> str:
    return (await text_of(fs, path)).decode()


async def names(fs, path: str) -> list[str]:
    return [entry.name for entry in await fs.listdir(path)]


async def tell(fs, path: str, text: str) -> None:
    file = await fs.open(path, OpenFlags.WRITE, 0)
    await file.write(0, text.encode())
    await file.flush(Closing.LAST)
    await file.release()


def test_a_cluster_has_a_name_an_owner_and_nodes(tree):
    async def main(ann, root):
        assert await names(ann, "clusters") == ["cl1", "cl2", "cl3"]
        assert await names(ann, "clusters/cl1") == ["ctl", "default", "name", "nodes", "owner"]
        shown = [
            [await said(ann, f"clusters/{cluster}/{name}") for name in ("name", "default", "owner", "nodes")]
            for cluster in ("cl1", "cl2", "cl3")
        ]
        assert shown == [
            ["GradientNode Cluster\n", "yes\n", "", "n0\n"],
            ["Attic\n", "no\n", "", "n1@cl2\n"],
            ["GradientNode Cluster\n", "yes\n", "ann\n", "n1@cl3\n"],
        ]
        with pytest.raises(PfsError) as caught:
            await ann.getattr("clusters/cl4")
        assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


def test_every_node_is_listed_once_and_further_instances_in_it(tree):
    async def main(ann, root):
        assert await names(ann, "nodes") == ["n0", "n1@cl2", "n1@cl3"]
        assert await names(ann, "nodes/n0/instances") == ["2"]
        assert "instances" not in await names(ann, "nodes/n1@cl2")
        first, second = await names(ann, "nodes/n0"), await names(ann, "nodes/n0/instances/2")
        assert set(first) - {"instances"} == set(second) - {"gpus"}
        assert "instances" not in second
        status = await said(ann, "nodes/n1@cl3/status")
        assert "\ncluster GradientNode Cluster\ncluster_id cl3\nowner ann\n" in status
        for missing in ("nodes/n1", "nodes/n0/instances/1", "nodes/n0/instances/3"):
            with pytest.raises(PfsError) as caught:
                await ann.getattr(missing)
            assert caught.value.kind is Kind.NOT_FOUND

    tree(main)


def test_ctl_renames_a_cluster_and_makes_it_the_default(tree):
    async def main(ann, root):
        await tell(root, "clusters/cl2/ctl", "rename The lab\ndefault\n")
        assert [await said(ann, f"clusters/cl2/{name}") for name in ("name", "default")] == ["The lab\n", "yes\n"]
        assert await said(ann, "clusters/cl1/default") == "no\n"
        assert await said(ann, "clusters/cl3/default") == "yes\n"
        assert await names(ann, "nodes") == ["n0", "n1", "n1@cl3"]
        await tell(ann, "clusters/cl3/ctl", "rename Mine\n")
        assert await said(ann, "clusters/cl3/name") == "Mine\n"
        assert (await said(ann, "clusters/cl3/ctl")).startswith("Commands, one per line")

    tree(main)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rename X\n", Kind.FORBIDDEN),
        ("default\n", Kind.FORBIDDEN),
        ("rename\n", Kind.INVALID),
        ("default now\n", Kind.INVALID),
        ("remove\n", Kind.INVALID),
        ("\n", Kind.INVALID),
        ("rename X\nremove\n", Kind.INVALID),
        ("rename \x01\n", Kind.INVALID),
        (f"rename {'x' * 101}\n", Kind.INVALID),
        ("rename X\n" * 1000, Kind.INVALID),
    ],
)
def test_what_a_cluster_cannot_be_told_is_refused_in_write_and_changes_nothing(tree, text, kind):
    async def main(ann, root):
        with pytest.raises(PfsError) as caught:
            await tell(ann if kind is Kind.FORBIDDEN else root, "clusters/cl2/ctl", text)
        assert caught.value.kind is kind
        assert [await said(ann, f"clusters/cl2/{name}") for name in ("name", "default")] == ["Attic\n", "no\n"]

    tree(main)
