"""Machines in SQL, what administrators decide about them, and what is made between them."""

import pytest

from jobd.store.nodes import Policy
from pfs.errors import Kind, PfsError

GPUS = [{"uuid": "GPU-0", "index": 0, "model": "GTX 1070", "memory_bytes": 1}]


@pytest.fixture
def store(service):
    return service.store


def test_a_hello_changes_a_node_and_nothing_that_was_decided_about_it(service, store, run):
    async def main():
        node = service.node("n0")
        node.gpus = GPUS
        await store.save_node(node)
        service.accounts.join_now("research", "ann")
        store.reserve_now("cmn0", "", frozenset({"research"}))
        store.reserve_now("cmn0", "GPU-0", frozenset({"research"}))
        store.alias_now("gtx", "GTX 1070")
        before = await store.policy()
        again = service.node("n0", cpus=9)
        again.gpus = GPUS
        await store.save_node(again)
        [kept] = await store.nodes()
        assert (kept.attrs["cpuCount"], kept.gpus) == (9, GPUS)
        groups = frozenset({"research"})
        assert await store.policy() == before == store.policy_now()
        assert before == Policy({"cmn0": groups}, {"GPU-0": groups}, {"gtx": "GTX 1070"}, {"ann": groups})

    run(main)


def test_nodes_come_by_name(service, store, run):
    async def main():
        for name in ("n2", "n10", "n1"):
            await store.save_node(service.node(name))
        assert [node.name for node in store.nodes_now()] == ["n1", "n10", "n2"]

    run(main)


def test_a_reservation_is_whole_or_not_made(service, store, run):
    async def main():
        await store.save_node(service.node("n0"))
        service.accounts.join_now("research", "ann")
        with pytest.raises(PfsError) as caught:
            store.reserve_now("cmn0", "", frozenset({"research", "typo"}))
        assert caught.value.kind is Kind.NOT_FOUND
        assert (await store.policy()).node_groups == {}

    run(main)


def test_an_account_has_its_groups_wherever_it_is_asked_for(service, run):
    async def main():
        service.accounts.join_now("research", "ann")
        service.accounts.join_now("teaching", "ann")
        assert (await service.accounts.user("ann")).groups == {"research", "teaching"}
        assert (await service.accounts.user("bob")).groups == frozenset()
        service.accounts.leave_now("teaching", "ann")
        assert (await service.accounts.user("ann")).groups == {"research"}

    run(main)


def test_a_network_is_known_from_before_it_is_made_until_it_is_gone(store, run):
    async def main():
        for _ in range(2):
            await store.keep_network("pfs-1", "swarm")
        await store.keep_network("pfs-2", "swarm")
        assert sorted(await store.networks()) == [("pfs-1", "swarm"), ("pfs-2", "swarm")]
        await store.forget_network("pfs-1")
        await store.forget_network("pfs-1")
        assert await store.networks() == [("pfs-2", "swarm")]

    run(main)
