"""What is refused before there is a number, and what is not."""

import pytest

from jobd.life.life import State
from pfs.errors import Kind, PfsError
from tests.jobd.engine.drive import driving


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("priority: 60\ncommand: x\n", Kind.DENIED, "above 50 are for admins"),
        ("groups: [{name: a, image: busybox, command: x}, {name: b, command: x}]\n", Kind.INVALID, "reach one another"),
        ("command: x\nmounts: ['/pfs/dc1/home/bob:/b']\n", Kind.NOT_FOUND, "mounts"),
        ("command: x\ncontinue: 99\n", Kind.INVALID, "there is no job 99"),
    ],
)
def test_what_may_not_be_asked_for_is_refused_with_the_reason(service, run, text, kind, says):
    async def main():
        async with driving(service) as drive:
            with pytest.raises(PfsError, match=says) as caught:
                await drive.submit(text)
            assert caught.value.kind is kind
            assert await service.store.active() == []

    run(main)


def test_an_admin_may_go_before_everybody(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("priority: 60\ncommand: x\n", user=service.admin)
            assert (await drive.life(job)).priority == 60

    run(main)


def test_a_job_that_needs_nothing_waits_for_nodes_with_its_first_commit(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            assert (await service.store.job(job)).life.state is State.WAITING

    run(main)


def test_a_job_goes_on_from_what_another_kept(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            (service.root / f"jobs/{first}/data/keep/model").write_text("weights")
            await node.runs(task.task_id)
            await node.ends(task.task_id)
            second = await drive.submit(f"command: x\ncontinue: {first}\n", name="b")
            await node.starts(2)
            assert (service.root / f"jobs/{second}/data/keep/model").read_text() == "weights"
            with pytest.raises(PfsError, match=f"there is no job {first}"):
                await drive.submit(f"command: x\ncontinue: {first}\n", user=service.bob)

    run(main)
