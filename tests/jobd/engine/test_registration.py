"""Machines that say hello: what is kept of who they are, and that nobody takes another one's place."""

from typing import Any

import pytest
import trio

from jobd.engine.registration import Machine, Registration
from jobd.identity import Claim
from jobd.life.life import State
from jobd.store.nodes import drop_machines
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import CLUSTER, Link
from tests.jobd.engine.drive import driving

GPU = {"uuid": "GPU-0", "index": 0, "model": "GTX 1070", "memory_bytes": 1}


class World:
    def __init__(self, service, drive):
        self.service = service
        self.drive = drive
        self.engine = drive.engine
        self.registration = Registration(drive.engine, lambda: service.now_ns)
        self.links: dict[str, tuple[str, Link]] = {}

    async def hello(self, token: str, *, owner: str = "", boot: str = "boot", gpus: Any = (), **said: Any) -> str:
        """Come in as a machine; return the id that it has."""
        machine = Machine({"offerCpus": 4, "offerMemory": 1, "maxProcesses": 8}, ["sandbox"], list(gpus), boot)
        async with self.registration.entered(Claim(**{"name": "n0", **said}, token=token), owner, machine) as row:
            link = Link()
            await self.engine.attach(row, link, [])
        self.links[token] = row.id, link
        return row.id

    def leave(self, token: str) -> None:
        self.engine.detach(*self.links.pop(token))

    async def starts(self, token: str) -> None:
        """Wait until a machine was asked to start something."""
        link = self.links[token][1]
        while not link.started:
            await link.heard.wait()

    async def kept(self) -> dict[str, tuple[str, str, str, str]]:
        """Return what the disk has of all nodes: name, cluster, token, owner."""
        return {n.id: (n.name, n.cluster_id, n.instance, n.owner) for n in await self.service.store.nodes()}


@pytest.fixture
def world(service, run):
    def within(main):
        async def outer():
            async with driving(service) as drive:
                await main(World(service, drive))

        run(outer)

    return within


def test_nodes_have_ids_of_the_form_that_people_know(world):
    async def main(world):
        node_id = await world.hello("a")
        assert (node_id[:2], len(node_id), node_id.isalnum()) == ("cm", 14, True)
        again = await world.hello("b", name="n1", cluster="Attic")
        [attic] = [cluster for cluster in world.engine.fleet.clusters if cluster.id != CLUSTER.id]
        assert (attic.name, attic.id[:2], len(attic.id), attic.is_default) == ("Attic", "cl", 9, False)
        assert await world.kept() == {
            node_id: ("n0", CLUSTER.id, "a", ""),
            again: ("n1", attic.id, "b", ""),
        }
        assert await world.service.store.clusters() == list(world.engine.fleet.clusters)

    world(main)


def test_machines_of_one_name_are_instances_of_one_node_and_each_finds_its_own_place(world):
    async def main(world):
        first, second = await world.hello("a"), await world.hello("b")
        assert second == f"{first}.2"
        assert [each.label for each in world.engine.fleet.standings()] == ["n0", "n0/instances/2"]
        world.leave("a")
        world.leave("b")
        assert (await world.hello("b"), await world.hello("a")) == (second, first)

    world(main)


def test_two_new_machines_at_one_moment_get_two_places(world):
    async def main(world):
        first = await world.hello("a")
        world.leave("a")
        found = []

        async def come(token):
            found.append(await world.hello(token))

        async with trio.open_nursery() as nursery:
            for token in ("b", "c", "d"):
                nursery.start_soon(come, token)
        assert sorted(found) == [first, f"{first}.2", f"{first}.3"]
        assert {token for *_, token, _ in (await world.kept()).values()} == {"b", "c", "d"}

    world(main)


def test_who_takes_a_place_takes_nothing_else_of_who_was_there(world):
    async def main(world):
        first = await world.hello("a", boot="one", gpus=[GPU])
        world.leave("a")
        assert await world.hello("b", boot="two") == first
        [node] = await world.service.store.nodes()
        assert (node.instance, node.boot_id, node.gpus) == ("b", "two", [])

    world(main)


def test_a_machine_with_jobs_keeps_its_place_and_its_name(world):
    async def main(world):
        first = await world.hello("a")
        job = await world.drive.submit("command: x")
        await world.starts("a")
        world.leave("a")
        assert await world.hello("b") == f"{first}.2"
        assert await world.hello("a", name="another") == first
        assert world.engine.fleet.name(first) == "n0"
        assert (await world.drive.job(job)).life.nodes == (first,)

    world(main)


def test_a_restart_of_the_machine_is_noticed_where_it_gets_another_name_at_the_same_time(world):
    async def main(world):
        first = await world.hello("a", boot="one")
        job = await world.drive.submit("command: x")
        await world.starts("a")
        await world.engine.running(first, f"{job}.1.0.0", world.service.now_ns)
        world.leave("a")
        assert await world.hello("a", boot="two", node_id=first, name="alpha") == first
        life = await world.drive.until(job, State.NODE_LOST)
        assert life.reason == "the node alpha was started again"
        assert [row.name for row in world.engine.fleet.rows()] == ["alpha"]

    world(main)


def test_a_second_machine_with_a_copy_of_the_state_is_refused_until_the_first_is_silent(world):
    async def main(world):
        first = await world.hello("a", boot="one")
        with pytest.raises(PfsError, match="the node n0 is connected from another machine; if its state") as caught:
            await world.hello("a", boot="two")
        assert caught.value.kind is Kind.BUSY
        assert await world.hello("a", boot="one") == first  # the same one: its connection died without a word
        world.service.now_ns += 20_000_000_000
        assert await world.hello("a", boot="two") == first

    world(main)


def test_who_a_node_is_stays_over_a_restart_of_the_server(service, run):
    async def main():
        async with driving(service) as drive:
            world = World(service, drive)
            first = await world.hello("a", name="n1", cluster="Attic")
            second = await world.hello("b", name="n1", cluster="Attic")
        async with driving(service) as drive:
            world = World(service, drive)
            assert await world.hello("b", name="n1", cluster="Attic") == second
            assert await world.hello("a", name="n1", cluster="Attic") == first
            assert len(drive.engine.fleet.clusters) == 2

    run(main)


def test_a_node_is_renamed_with_all_its_instances_by_whoever_it_belongs_to(world):
    async def main(world):
        service, roster = world.service, world.engine.roster
        first, second = await world.hello("a"), await world.hello("b")
        await world.hello("c", name="n1")
        own = await world.hello("d", owner="ann")
        for subject, node_id, name, kind in (
            (service.ann, first, "x", Kind.FORBIDDEN),
            (service.bob, own, "x", Kind.FORBIDDEN),
            (service.admin, first, "n1", Kind.EXISTS),
            (service.admin, first, "a/b", Kind.INVALID),
            (service.admin, "cm9", "x", Kind.NOT_FOUND),
        ):
            with pytest.raises(PfsError) as caught:
                await roster.rename_node(subject, node_id, name)
            assert caught.value.kind is kind
        await roster.rename_node(service.admin, second, "alpha")
        await roster.rename_node(service.ann, own, "mine")
        names = {node_id: name for node_id, (name, *_) in (await world.kept()).items()}
        assert (names[first], names[second], names[own]) == ("alpha", "alpha", "mine")
        # the daemon says what it always said
        world.leave("a")
        assert await world.hello("a") == first

    world(main)


def test_a_cluster_is_renamed_or_made_the_default_by_whoever_it_belongs_to(world):
    async def main(world):
        service, roster, fleet = world.service, world.engine.roster, world.engine.fleet
        await world.hello("a", cluster="Attic")
        await world.hello("b", owner="ann")
        by_owner = {(each.owner, each.name): each for each in fleet.clusters}
        attic, own = by_owner["", "Attic"], by_owner["ann", CLUSTER.name]
        for subject, cluster in ((service.ann, attic), (service.bob, own)):
            with pytest.raises(PfsError, match="this cluster is changed by") as caught:
                await roster.make_default(subject, cluster)
            assert caught.value.kind is Kind.FORBIDDEN
            with pytest.raises(PfsError, match="this cluster is changed by"):
                await roster.rename_cluster(subject, cluster, "x")
        with pytest.raises(PfsError) as caught:
            await roster.rename_cluster(service.admin, attic, CLUSTER.name)
        assert caught.value.kind is Kind.EXISTS
        await roster.rename_cluster(service.ann, own, "Attic")
        await roster.make_default(service.admin, attic)
        assert await service.store.clusters() == list(fleet.clusters)
        found = {each.id: (each.name, each.is_default) for each in fleet.clusters}
        assert found == {CLUSTER.id: (CLUSTER.name, False), attic.id: ("Attic", True), own.id: ("Attic", True)}

    world(main)


# ---- jobs


def test_a_job_that_names_a_cluster_waits_for_it_and_runs_there(world):
    async def main(world):
        await world.hello("a")
        job = await world.drive.submit("command: x\ncluster: The lab")
        why = world.engine.why(await world.drive.job(job))
        assert why.startswith("no node of cluster 'The lab' is registered yet")
        lab = await world.hello("b", name="n1", cluster="The lab")
        await world.starts("b")
        assert (await world.drive.job(job)).life.nodes == (lab,)
        # by its id, and by the name that it has now
        [cluster] = [each for each in world.engine.fleet.clusters if each.name == "The lab"]
        await world.engine.roster.rename_cluster(world.service.admin, cluster, "Attic")
        by_id = await world.drive.submit(f"command: x\ncluster: {cluster.id}")
        by_name = await world.drive.submit("command: x\ncluster: Attic")
        lost = await world.drive.submit("command: x\ncluster: The lab")
        await world.drive.quiet()
        assert [(await world.drive.job(each)).life.nodes for each in (by_id, by_name, lost)] == [(lab,), (lab,), ()]
        await world.engine.roster.rename_cluster(world.service.admin, cluster, "The lab")
        await world.drive.quiet()
        assert (await world.drive.job(lost)).life.nodes == (lab,)

    world(main)


def test_a_node_of_a_user_runs_their_jobs_and_nobody_elses(world):
    async def main(world):
        own = await world.hello("a", owner="bob")
        of_ann = await world.drive.submit("command: x")
        of_bob = await world.drive.submit("command: x", user=world.service.bob)
        await world.starts("a")
        assert (await world.drive.job(of_bob)).life.nodes == (own,)
        waits = await world.drive.job(of_ann)
        assert waits.life.nodes == ()
        assert "bob" in world.engine.why(waits)
        await world.hello("b", name="n1")
        await world.drive.quiet()
        assert world.engine.fleet.name((await world.drive.job(of_ann)).life.nodes[0]) == "n1"

    world(main)


def remove(service, name):
    """Let an account be gone, as a command of the administrator does."""
    service.accounts.remove_user_now(name, lambda session: drop_machines(session, name))


def test_the_nodes_of_an_account_that_is_gone_are_forgotten_and_what_ran_there_is_lost(world):
    async def main(world):
        engine, service = world.engine, world.service
        mine, others = await world.hello("a", owner="ann", cluster="lab"), await world.hello("b", name="n1")
        job_id = await world.drive.submit("command: sleep 60\nnodes: n0\n")
        await world.starts("a")
        remove(service, "ann")
        await engine.roster.take_up_gone()
        await engine.roster.take_up_clusters()
        life = await world.drive.until(job_id, State.NODE_LOST)
        assert "the account whose node n0 was is gone" in life.reason
        assert [each.row.id for each in engine.fleet.standings()] == [others]
        assert set(await world.kept()) == {others}
        assert [cluster.owner for cluster in engine.fleet.clusters] == [""]
        assert engine.fleet.name(mine) == mine
        world.leave("a")  # its connection ends as late as it likes
        await world.drive.quiet()

    world(main)


def test_a_machine_whose_account_is_gone_is_not_kept(world):
    async def main(world):
        await world.hello("a", owner="ann", cluster="lab")
        remove(world.service, "ann")
        for token, name in (("a", "n7"), ("b", "n8")):
            with pytest.raises(PfsError, match="the account of ann") as caught:
                await world.hello(token, owner="ann", name=name, cluster="den")
            assert caught.value.kind is Kind.UNAUTHENTICATED
        assert await world.kept() == {}
        assert [cluster.owner for cluster in await world.service.store.clusters()] == [""]

    world(main)


def test_who_has_the_name_of_somebody_who_is_gone_has_none_of_their_nodes(world):
    async def main(world):
        first = await world.hello("a", owner="bob", cluster="lab")
        remove(world.service, "bob")
        world.service.accounts.add_user_now("bob", admin=False)
        await world.engine.roster.take_up_gone()  # told of both at once
        await world.engine.roster.take_up_clusters()
        assert list(world.engine.fleet.rows()) == []
        assert await world.hello("a", owner="bob") != first

    world(main)
