"""Which machines take no new work, in SQL."""

import pytest

from jobd.nodestate import Closed

FIRST, SECOND = Closed("ann", "new disk", 1), Closed("", "it fails", 2)


@pytest.fixture
def store(service):
    return service.store


def test_a_machine_is_closed_for_the_last_reason_until_it_is_opened(service, store, run):
    async def main():
        for name in ("n0", "n1"):
            await store.save_node(service.node(name))
        assert await store.closed() == {}
        await store.close_nodes(["cmn0", "cmn1"], FIRST)
        store.close_nodes_now(["cmn1"], SECOND)
        assert await store.closed() == store.closed_now() == {"cmn0": FIRST, "cmn1": SECOND}
        await store.save_node(service.node("n0", cpus=9))
        assert (await store.closed())["cmn0"] == FIRST
        await store.open_nodes(["cmn0"])
        assert store.closed_now() == {"cmn1": SECOND}
        store.open_nodes_now(["cmn1", "cmn0"])
        assert await store.closed() == {}

    run(main)
