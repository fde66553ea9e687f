"""Jobs that are shared with groups: with whom a new one is, who changes it, and what it is worth at once."""

from contextlib import suppress
from dataclasses import replace

import pytest

from jobd.life.life import State
from jobd.store.nodes import Policy
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, Scope, Subject
from tests.jobd.engine.drive import Drive, driving, refusal

ML = frozenset({"ml"})
MEL = Subject("mel", groups=ML)


def in_ml(service) -> Subject:
    """Let ann be in the group ml."""
    service.accounts.join_now("ml", "ann")
    return replace(service.ann, groups=ML)


async def readers(drive: Drive, job: int) -> list[str]:
    found = []
    for who in (drive.service.ann, drive.service.bob, MEL, drive.service.admin):
        with suppress(PfsError):
            await drive.engine.ledger.find(job, who)
            assert job in [each.id for each in await drive.engine.ledger.listed(who)]
            found.append(who.user)
    return found


def test_a_new_job_is_shared_with_the_groups_that_its_owner_chose_unless_it_is_private(service, run):
    in_ml(service)

    async def main():
        async with driving(service) as drive:
            assert await readers(drive, await drive.submit()) == ["ann", "root"]
            service.accounts.set_autoshare_now("ann", ML)
            assert await readers(drive, await drive.submit()) == ["ann", "mel", "root"]
            assert await readers(drive, await drive.submit("{command: x, private: true}\n")) == ["ann", "root"]
            service.accounts.leave_now("ml", "ann")
            assert await readers(drive, await drive.submit()) == ["ann", "root"]
        async with driving(service) as drive:
            assert [await readers(drive, job) for job in (1, 2)] == [["ann", "root"], ["ann", "mel", "root"]]

    run(main)


@pytest.mark.parametrize("is_over", [False, True])
def test_its_owner_shares_a_job_later_and_takes_it_back(service, run, is_over):
    ann = in_ml(service)

    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            if is_over:
                await drive.engine.kill(ann, job)
                await drive.until(job, State.CANCELLED)
            changes: list[tuple[Domain, Domain]] = []
            drive.engine.ledger.unshared = lambda before, after: changes.append((before, after))
            await drive.engine.share(ann, job, ML)
            assert await readers(drive, job) == ["ann", "mel", "root"]
            await drive.engine.unshare(ann, job, frozenset())
            assert await readers(drive, job) == ["ann", "root"]
            gone = frozenset()
            assert [(before.groups, after.groups) for before, after in changes] == [(gone, ML), (ML, gone)]
        async with driving(service) as drive:
            assert await readers(drive, job) == ["ann", "root"]

    run(main)


def test_an_array_is_shared_with_its_tasks(service, run):
    ann = in_ml(service)

    async def main():
        async with driving(service) as drive:
            array = await drive.submit("{command: x, array: 0-1}\n")
            tasks = [job.id for job in (await drive.engine.ledger.tasks(array)).values()]
            await drive.engine.share(ann, array, ML)
            for task in tasks:
                assert (await drive.engine.ledger.find(task, MEL)).array_id == array
            await drive.engine.kill(ann, array)  # from then on they are read from the disk
            await drive.until(array, State.CANCELLED)
            for task in tasks:
                assert (await drive.engine.ledger.find(task, MEL)).life.state.over
            assert await refusal(drive.engine.share(ann, tasks[0], ML)) is Kind.INVALID
            await drive.engine.unshare(ann, array, ML)
            for task in tasks:
                assert await refusal(drive.engine.ledger.find(task, MEL)) is Kind.NOT_FOUND

    run(main)


def test_one_shares_with_groups_that_one_is_in_and_admins_with_all(service, run):
    ann = in_ml(service)
    service.accounts.join_now("hr", "bob")

    async def main():
        async with driving(service) as drive:
            await drive.engine.set_policy(Policy(members={"ann": ML, "bob": frozenset({"hr"})}))
            job, said = await drive.submit(), set()
            for group in ("hr", "none"):
                with pytest.raises(PfsError) as caught:
                    await drive.engine.share(ann, job, frozenset({group}))
                said.add((caught.value.kind, caught.value.message.replace(group, "…")))
            assert len(said) == 1
            assert said.pop()[0] is Kind.INVALID
            await drive.engine.share(service.admin, job, frozenset({"hr"}))
            assert await refusal(drive.engine.share(service.admin, job, frozenset({"none"}))) is Kind.INVALID
            assert (await drive.job(job)).groups == {"hr"}
            assert await refusal(drive.engine.unshare(ann, job, ML)) is Kind.INVALID

    run(main)


def test_only_its_owner_and_admins_share_a_job(service, run):
    ann = in_ml(service)

    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            await drive.engine.share(ann, job, ML)
            reader = replace(ann, scopes=frozenset({Scope.READ}))
            for who, kind in ((MEL, Kind.FORBIDDEN), (reader, Kind.FORBIDDEN), (service.bob, Kind.NOT_FOUND)):
                for command in (drive.engine.share, drive.engine.unshare):
                    assert await refusal(command(who, job, ML)) is kind

    run(main)
