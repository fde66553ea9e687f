"""What is refused before there is a number, and what is not."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd.engine.engine import Had
from jobd.life.life import State
from jobd.scheduling.quotas import JobLimits
from jobd.spec.defaultimages import DefaultImages
from jobd.store.nodes import Policy
from jobd.wire import Credential, parse_task_id
from pfs.audit.record import record_in
from pfs.errors import Kind, PfsError
from tests.jobd.engine.drive import driving

CREDENTIAL = b"server: https://reg:5000\nusername: ann\npassword: canary\n"


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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image: reg/x\nregistry: none\ncommand: x\n", "there is no secret none; write the credential to secrets/none"),
        ("image: reg:5000/x\nregistry: bobs\ncommand: x\n", "there is no secret bobs"),
        ("image: reg:5000/x\nregistry: token\ncommand: x\n", "the secret token is no credential"),
        ("image: x\nregistry: corp\ncommand: x\n", "corp is for reg:5000, and the image comes from docker.io"),
        ("registry: corp\ncommand: x\n", "the job has no image"),
        ("secrets: [token, bobs]\ncommand: x\n", "secrets: there is no secret bobs; write it to secrets/bobs"),
        ("secrets: token\nmounts: ['d:/run/secrets/x']\ncommand: x\n", "/run/secrets holds the secrets of the job"),
    ],
)
def test_a_credential_that_cannot_serve_is_refused_and_none_of_it_is_said(service, run, text, says):
    async def main():
        async with driving(service) as drive:
            for user, name, kept in (
                ("bob", "bobs", CREDENTIAL),
                ("ann", "corp", CREDENTIAL),
                ("ann", "token", b"canary"),
            ):
                await service.secrets.keep(user, name, kept)
            with pytest.raises(PfsError, match=says) as caught:
                await drive.submit(text)
            assert caught.value.kind is Kind.INVALID
            assert "canary" not in str(caught.value)

    run(main)


def test_a_credential_is_looked_up_when_a_task_starts_and_stands_in_nothing_that_is_kept(service, run):
    async def main():
        async with driving(service) as drive:
            await service.secrets.keep("ann", "corp", CREDENTIAL)
            text = "image: reg:5000/x\nregistry: corp\ncommand: x\n"
            first, second = await drive.submit(text), await drive.submit(text, name="b")
            node = await drive.attach(runtimes=["docker"])
            tasks = await node.starts(2)
            assert {task.credential for task in tasks} == {Credential("reg:5000", "ann", "canary")}
            assert "canary" not in repr(tasks)
            kept = [await drive.job(first), await service.store.history(first), await service.store.spec_text(second)]
            assert "canary" not in repr(kept)
            assert b"canary" not in b"".join(path.read_bytes() for path in service.root.rglob("*") if path.is_file())

    run(main)


def test_processes_get_the_secrets_that_the_spec_names_as_they_are_then(service, run):
    async def main():
        async with driving(service) as drive:
            for text in (b"old", b"canary\xff\n"):
                await service.secrets.keep("ann", "wandb", text)
                await service.secrets.keep("ann", "other", text)
                if text == b"old":
                    job = await drive.submit("secrets: wandb\ncommand: x\n")
            node = await drive.attach()
            (task,) = await node.starts()
            assert task.secrets == {"wandb": b"canary\xff\n"}
            assert "canary" not in repr(task) + repr(await service.store.history(job)) + repr(task.env)

    run(main)


def test_a_credential_that_is_gone_when_a_task_starts_fails_the_job(service, run):
    async def main():
        async with driving(service) as drive:
            await service.secrets.keep("ann", "corp", CREDENTIAL)
            job = await drive.submit("image: reg:5000/x\nregistry: corp\ncommand: x\n")
            await service.secrets.forget("ann", "corp")
            await drive.attach(runtimes=["docker"])
            life = await drive.until(job, State.FAILED)
            assert "there is no secret corp" in life.reason

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


def at_most(service, **holders):
    return Policy(quotas={holder.replace("_", "/"): limits for holder, limits in holders.items()}, members=MEMBERS)


MEMBERS = {"ann": frozenset({"ml"}), "bob": frozenset({"ml"})}
EIGHT = [{"uuid": f"g{n}", "index": n, "model": "GTX", "memory_bytes": 8 << 30} for n in range(8)]
GPUS = "command: x\nresources: '[{}:GTX]'\n"


def test_a_job_alone_above_a_quota_is_refused_with_the_request_and_the_limit(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.attach(gpus=EIGHT)
            await drive.engine.set_policy(at_most(service, ann=JobLimits(gpus=2), groups_ml=JobLimits(gpus=4)))
            for text, user, says in (
                (
                    GPUS.format(3),
                    service.ann,
                    "needs 3 GPUs, but ann's quota is 2 at once, 0 in use; ask for at most 2",
                ),
                (
                    GPUS.format(5),
                    service.bob,
                    "needs 5 GPUs, but the quota of group ml is 4 at once, 0 in use; ask for at most 4",
                ),
            ):
                with pytest.raises(PfsError, match=says) as caught:
                    await drive.submit(text, user=user)
                assert caught.value.kind is Kind.QUOTA
            await drive.submit(GPUS.format(2))
            await drive.submit(GPUS.format(4), user=service.bob)

    run(main)


def test_what_the_quota_has_no_room_for_waits_and_says_what_is_in_use(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach(gpus=EIGHT)
            await drive.engine.set_policy(at_most(service, ann=JobLimits(running=2, gpus=4)))
            first = await drive.submit(GPUS.format(3))
            second, third = await drive.submit(GPUS.format(2)), await drive.submit(GPUS.format(1))
            assert [parse_task_id(task.task_id)[0] for task in await node.starts(2)] == [first, third]
            why = "needs 2 GPUs, and ann's quota has 4 of 4 in use"
            assert drive.engine.why(await drive.job(second)).startswith("ann's quota has 2 of 2 jobs running; place 1")
            await drive.engine.set_policy(at_most(service, ann=JobLimits(gpus=4)))
            assert drive.engine.why(await drive.job(second)).startswith(why)
            # lowered limits end nothing that runs
            await drive.engine.set_policy(at_most(service, ann=JobLimits(gpus=1)))
            assert drive.engine.has("ann") == Had(2, 1, 4)
            assert "ann's quota is 1 at once" in drive.engine.why(await drive.job(second))
            await drive.engine.set_policy(at_most(service))
            assert [parse_task_id(task.task_id)[0] for task in await node.starts(3)] == [first, second, third]

    run(main)


def test_no_more_jobs_wait_than_may_however_many_come_at_once(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.engine.set_policy(at_most(service, ann=JobLimits(waiting=5), groups_ml=JobLimits(waiting=7)))
            refused, made = [], []

            async def submit(number, user):
                try:
                    made.append(await drive.submit(name=f"a{number}", user=user))
                except PfsError as error:
                    refused.append(error)

            async with trio.open_nursery() as nursery:
                for number in range(40):
                    nursery.start_soon(submit, number, service.ann)
            assert (len(made), {error.kind for error in refused}) == (5, {Kind.QUOTA})
            says = (
                "ann's quota has 5 of 5 jobs waiting, and this makes 1 more; submit it when some of them have started"
            )
            assert {says in error.message for error in refused} == {True}
            with pytest.raises(PfsError, match="the quota of group ml has 5 of 7 jobs waiting, and this makes 3 more"):
                await drive.submit("command: x\narray: 0-2\n", user=service.bob)
            await drive.submit("command: x\narray: 0-1\n", user=service.bob)
            assert drive.engine.has("groups/ml") == Had(0, 7, 0)
            # what has places waits no more
            node = await drive.attach()
            await node.starts(7)
            assert drive.engine.has("groups/ml") == Had(7, 0, 0)
            await drive.submit()

    run(main)


def test_who_asks_again_for_what_fills_the_quota_is_told_of_it(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.engine.set_policy(at_most(service, ann=JobLimits(waiting=1)))
            first = await drive.submit(key="k")
            assert await drive.submit(key="k") == first
            with pytest.raises(PfsError, match="1 of 1 jobs waiting"):
                await drive.submit(key="other")

    run(main)


def test_who_submits_without_end_keeps_nobody_else_waiting(service, run):
    """What somebody submits is taken in after a few of the others', not after all."""

    async def main():
        async with driving(service) as drive:
            made = []

            async def submit(number, user):
                made.append((user.user, await drive.submit(name=f"a{number}", user=user)))

            async with trio.open_nursery() as nursery:
                for number in range(300):
                    nursery.start_soon(submit, number, service.ann)
                await wait_all_tasks_blocked()
                await submit(0, service.bob)
                assert len(made) < 100
            assert len(made) == 301

    run(main)


def reaches(service) -> list[tuple[str, str, str]]:
    """Return what the audit log says of who reached what of whom as an administrator."""
    records = map(record_in, service.audit.lines_now())
    return [(each.on, each.more.get("owner", ""), each.result) for each in records if each.what == "admin.reach"]


def test_an_administrator_whose_job_takes_of_what_is_anothers_stands_in_the_audit_log(service, run):
    (service.root / "home/bob/data").mkdir()

    async def main():
        async with driving(service) as drive:
            await drive.submit()  # ann's
            for who, text in (
                (service.ann, "continue: 1"),
                (service.admin, "title: mine"),
                (service.bob, "mounts: ['data:/data']"),
            ):
                await drive.submit(f"command: x\n{text}\n", user=who)
            assert reaches(service) == []
            await drive.submit("command: x\ncontinue: 1\n", user=service.admin)
            assert reaches(service) == [("jobs/1", "ann", "done")]
            await drive.submit("command: x\nsrc: /pfs/dc1/home/bob/data\n", user=service.admin)
            await drive.submit("command: x\nmounts: ['/pfs/dc1/home/ann:/data:ro']\n", user=service.admin)
            assert [on for on, *_ in reaches(service)] == ["jobs/1", "home/bob", "home/ann"]

    run(main)


def test_a_job_in_paddleclouds_fields_without_an_image_has_the_datacenters_as_it_is_then(service, run):
    async def main():
        async with driving(service) as drive:
            text = 'entry: x\nimage: ""\n'
            with pytest.raises(PfsError, match="jobd image NAME"):
                await drive.submit(text)
            images = []
            for image in ("paddle:1", "paddle:2"):
                await drive.engine.set_policy(Policy(images=DefaultImages(image)))
                images.append(await drive.submit(text))
            node = await drive.attach(runtimes=["docker"])
            assert {(task.image, parse_task_id(task.task_id)[0]) for task in await node.starts(2)} == {
                ("paddle:1", images[0]),
                ("paddle:2", images[1]),
            }

    run(main)
