"""What the audit log tells of jobs, commands, secrets and nodes."""

from pfs.audit.origin import acting
from pfs.audit.record import record_in
from pfs.errors import Kind
from tests.jobd.engine.drive import driving
from tests.pfs.world import kind_of

from .test_drafts import text_of

LONG = "hold: true\ncommand: sleep 9\n"


def recorded(service) -> list[str]:
    found = []
    for line in service.audit.lines_now():
        record = record_in(line)
        more = [f"{key}={value}" for key, value in record.more.items()]
        found.append(" ".join([record.who, record.what, record.on, record.result, *more]))
    return found


async def put(fs, path: str, text: str) -> Kind | None:
    with acting(fs.subject.user, "10.0.0.7", "3fa9"):
        return await kind_of(fs.put(path, text.encode(), "once" if path.endswith(".yaml") else None))


def test_jobs_and_commands_are_recorded_done_or_refused(service, run):
    async def main():
        async with driving(service) as drive:
            ann, bob, root = (service.files(drive.engine, who) for who in (service.ann, service.bob, service.admin))
            await drive.attach()
            before = len(recorded(service))
            assert await put(ann, "jobs/a.yaml", LONG) is None
            assert await put(ann, "jobs/a.yaml", LONG) is None  # the same again
            assert await put(ann, "jobs/b.yaml", "comand: x\n") is Kind.INVALID
            assert await put(ann, "jobs/c.yaml", f"priority: 90\n{LONG}") is Kind.DENIED
            assert await put(ann, "jobs/1/ctl", "release\npriority 7\n") is None
            assert await put(ann, "jobs/1/ctl", "priority 99\n") is Kind.DENIED
            assert await put(bob, "jobs/1/ctl", "kill\n") is Kind.NOT_FOUND
            assert await put(root, "jobs/1/ctl", "kill\n") is None
            assert await put(root, "nodes/n0/ctl", "drain a new disk\n") is None
            assert await put(ann, "nodes/n0/ctl", "resume\n") is Kind.FORBIDDEN
            assert recorded(service)[before:] == [
                "ann job.submit jobs/1 done name=a",
                "ann job.submit jobs/b.yaml invalid",
                "ann job.submit jobs/c.yaml denied",
                "ann ctl jobs/1 done said=release priority 7",
                "ann ctl jobs/1 denied said=priority 99",
                "root ctl jobs/1 done said=kill",
                "root ctl nodes/cmn0 done said=drain a new disk",
                "ann ctl nodes/cmn0 forbidden said=resume",
            ]

    run(main)


def test_secrets_are_recorded_by_name(service, run):
    async def main():
        async with driving(service) as drive:
            ann = service.files(drive.engine, service.ann)
            before = len(recorded(service))
            await put(ann, "secrets/wandb", "hush-hush")
            with acting("ann", "10.0.0.7"):
                await ann.unlink("secrets/wandb")
                assert await kind_of(ann.unlink("secrets/wandb")) is Kind.NOT_FOUND
            assert recorded(service)[before:] == [
                "ann secret.keep users/ann/secrets/wandb done",
                "ann secret.forget users/ann/secrets/wandb done",
            ]
            assert "hush" not in "".join(service.audit.lines_now())

    run(main)


def test_an_administrator_is_recorded_who_reads_of_a_job_what_not_everybody_may(service, run):
    async def main():
        async with driving(service) as drive:
            ann, root = (service.files(drive.engine, who) for who in (service.ann, service.admin))
            await put(ann, "jobs/a.yaml", LONG)
            before = len(recorded(service))
            with acting("root", "10.0.0.9", "1234"):
                for path in ("queue", "jobs/1/status", "jobs/1/why"):
                    await text_of(root, path)
                await root.listdir("jobs")
                assert recorded(service)[before:] == []
                await text_of(root, "jobs/1/spec.yaml")
                await text_of(root, "jobs/1/spec.yaml")
            with acting("ann", "10.0.0.7"):
                await text_of(ann, "jobs/1/spec.yaml")
            assert recorded(service)[before:] == ["root admin.reach jobs/1 done owner=ann"]

    run(main)
