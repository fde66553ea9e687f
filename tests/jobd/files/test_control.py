"""What is written to a `ctl`: nothing of it is done where a line is refused, and who may not command is told so."""

from dataclasses import replace

import pytest

from jobd.life.life import State
from jobd.store.nodes import Policy
from pfs.errors import Kind, PfsError
from pfs.perm import Scope
from tests.jobd.engine.drive import driving

from .test_tree import GPUS, command, facts, names, said, tell

ML = {"ann": frozenset({"ml"}), "bob": frozenset({"ml", "vision"})}


@pytest.fixture
def tree(service, run):
    """Run an async test with a drive, and the tree as ann sees it."""

    def within(main):
        async def outer():
            async with driving(service) as drive:
                await drive.engine.set_policy(Policy(members=ML))
                await main(drive, service.files(drive.engine, replace(service.ann, groups=frozenset({"ml"}))))

        run(outer)

    return within


async def refused(told) -> Kind:
    with pytest.raises(PfsError) as caught:
        await told
    return caught.value.kind


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("priority 20\npriority 60", Kind.DENIED),
        ("priority 20\nextend 2h", Kind.INVALID),  # it has no limit
        ("priority 20\nshare vision", Kind.INVALID),
        ("priority 20\nshare ml\nunshare ml\nunshare ml", Kind.INVALID),
        ("priority 20\nunshare ml", Kind.INVALID),
        ("priority 20\nlost", Kind.DENIED),
        ("priority 20\nrelease", Kind.BUSY),
        ("priority 20\nrequeue", Kind.BUSY),
        ("priority 20\nhold\nrelease\nrelease", Kind.BUSY),
        ("priority 20\nsignal USR1", Kind.BUSY),
        ("priority 20\nkill\nhold", Kind.BUSY),
        ("priority 20\nkill\nkill", Kind.BUSY),  # it is over by the first
    ],
)
def test_no_line_is_obeyed_where_a_later_one_is_refused(tree, lines, kind):
    async def main(drive, fs):
        job = await drive.submit()
        before = await said(fs, f"jobs/{job}/events")
        assert await refused(command(fs, job, lines)) is kind
        assert await said(fs, f"jobs/{job}/events") == before
        assert await drive.job(job) == drive.engine.ledger.get(job).job
        assert (await drive.job(job)).groups == frozenset()

    tree(main)


def test_each_line_is_looked_at_as_the_lines_before_it_leave_the_job(tree):
    async def main(drive, fs):
        job = await drive.submit()
        await command(fs, job, "hold\nrelease\nhold\nrequeue\nshare ml\nunshare ml\npriority 20")
        assert (await drive.life(job)).priority == 20
        array = await drive.submit("command: x\narray: 0-1\n")
        await command(fs, array, "hold\nrelease\nhold\nrequeue")
        assert await refused(command(fs, array, "hold\nrelease\nrelease")) is Kind.BUSY
        assert (await drive.life(array)).held_by == ""
        await command(fs, job, "kill")
        await command(fs, job, "share ml\nunshare ml")  # over or not
        assert await refused(command(fs, job, "share ml\npriority 20")) is Kind.BUSY
        assert (await drive.job(job)).groups == frozenset()

    tree(main)


def test_no_line_for_a_node_is_obeyed_where_a_later_one_is_refused(tree, service):
    async def main(drive, fs):
        await drive.attach(gpus=GPUS)
        await drive.attach("n1")
        admin = service.files(drive.engine, service.admin)
        for lines, kind in (
            ("drain\nreserve ml 7", Kind.NOT_FOUND),
            ("drain\nunreserve ml 7", Kind.NOT_FOUND),
            ("drain\nrename n1", Kind.EXISTS),
            ("drain\nrename a/b", Kind.INVALID),
        ):
            assert await refused(tell(admin, "nodes/n0/ctl", lines)) is kind, lines
        for word in ("drain", "resume", "rename x", "reserve ml", "unreserve ml"):
            assert await refused(tell(fs, "nodes/n0/ctl", word)) is Kind.FORBIDDEN, word
        assert await said(fs, "nodes/n0/state") == "ONLINE\n"

    tree(main)


def test_no_line_for_a_cluster_is_obeyed_where_a_later_one_is_refused(tree, service):
    async def main(drive, fs):
        await drive.attach()
        admin = service.files(drive.engine, service.admin)
        [first] = await names(admin, "clusters")
        before = await said(admin, f"clusters/{first}/name")
        other = replace(drive.engine.fleet.clusters[0], id="cl9", name="taken", is_default=False)
        drive.engine.fleet.clusters = [*drive.engine.fleet.clusters, other]
        assert await refused(tell(admin, f"clusters/{first}/ctl", "rename fresh\nrename taken")) is Kind.EXISTS
        for word in ("default", "rename x"):
            assert await refused(tell(fs, f"clusters/{first}/ctl", word)) is Kind.FORBIDDEN, word
        assert await said(admin, f"clusters/{first}/name") == before

    tree(main)


def test_a_ctl_has_one_mode_for_all_and_its_write_tells_who_may_not_command(tree, service):
    async def main(drive, fs):
        await drive.attach()
        job = await drive.submit()
        await command(fs, job, "share ml")
        [cluster] = await names(fs, "clusters")
        fellow = service.files(drive.engine, replace(service.bob, groups=frozenset({"ml"})))
        reader = service.files(drive.engine, replace(service.ann, scopes=frozenset({Scope.READ})))
        admin = service.files(drive.engine, service.admin)
        for path, word, others in (
            (f"jobs/{job}", "priority 40", (fellow,)),
            ("nodes/n0", "resume", (fs, fellow)),
            (f"clusters/{cluster}", "default", (fs, fellow)),
        ):
            modes = [(await each.getattr(f"{path}/ctl")).mode & 0o777 for each in (fs, fellow, reader, admin)]
            assert modes == [0o600] * 4, path
            for each in others:
                assert await refused(tell(each, f"{path}/ctl", word)) is Kind.FORBIDDEN, path
            assert await refused(tell(reader, f"{path}/ctl", word)) is Kind.DENIED  # it is the token that may not
            await tell(admin, f"{path}/ctl", word)

    tree(main)


# ---- times


async def times(fs, job: int) -> dict[str, int]:
    found = {name: (await fs.getattr(f"jobs/{job}/{name}")).mtime_ns for name in ("state", "status", "why", "events")}
    return found | {"": (await fs.getattr(f"jobs/{job}")).mtime_ns}


def test_what_is_told_of_a_job_has_the_time_of_its_last_event_and_its_state_that_of_its_last_state(tree, service):
    async def main(drive, fs):
        job, node, task = await drive.one_runs("command: x\nmax_duration: 1h\n")
        for line, is_event in (("priority 20", True), ("extend 2h", True), ("share ml", False), ("unshare", False)):
            before = await times(fs, job)
            service.now_ns += 1
            await command(fs, job, line)
            after = await times(fs, job)
            assert (after[""], after["state"]) == (before[""], before["state"]), line
            assert after["status"] > before["status"], line
            assert (after["events"] > before["events"]) is is_event, line
        assert (await facts(fs, f"jobs/{job}/status"))["priority"] == "20"
        service.now_ns += 1
        await node.ends(task)
        await drive.until(job, State.SUCCEEDED)
        over = await times(fs, job)
        assert len(set(over.values())) == 1

    tree(main)


def test_what_is_told_of_a_job_that_waits_changes_its_time_with_the_jobs_around_it(tree, service):
    async def main(drive, fs):
        first = await drive.submit("command: x\nhold: true\n")
        second = await drive.submit()
        before = await times(fs, second)
        service.now_ns += 1
        await command(fs, first, "release")
        after = await times(fs, second)
        assert after["why"] > before["why"]
        assert after["status"] > before["status"]
        assert (after["events"], after["state"]) == (before["events"], before["state"])

    tree(main)
