import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd.life import events as happened
from jobd.life.life import State, fold
from jobd.store.tables import DraftRow
from jobd.wire import Wanted
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import SECOND_NS, Link, Service

SPEC = b"command: echo hi\n"


async def submit(service: Service, engine, text: bytes = SPEC, *, name: str = "a", user=None, key=None) -> int:
    user = user or service.ann
    now = service.now_ns
    draft = DraftRow(user=user.user, name=f"{name}.yaml", content=text, submitted=True, born_ns=now, mtime_ns=now)
    return await engine.submit(user, draft, name, key)


async def until(engine, job, state: State):
    with trio.fail_after(20):
        while True:
            active = engine.ledger.get(job.id)
            now = await engine.ledger.current(job)
            if now.life.state is state:
                return now
            assert active is not None, f"it ended as {now.life.state}"
            await active.changed.wait()


async def heard(link: Link, what: str) -> None:
    with trio.fail_after(20):
        while not getattr(link, what):
            await link.heard.wait()


async def run_one(service: Service, engine, link: Link, text: bytes = SPEC):
    """Bring a job to RUNNING on the node n0."""
    job_id = await submit(service, engine, text)
    await engine.attach(service.node(), link, [])
    await heard(link, "started")
    task = link.started[-1].task_id
    await engine.running("cmn0", task, service.now_ns)
    return await engine.ledger.find(job_id, service.ann), task


def test_a_job_goes_from_a_text_to_an_exit_code(service, run):
    async def main():
        link = Link()
        async with service.running() as engine:
            job, task = await run_one(service, engine, link)
            assert job.life.state is State.RUNNING
            assert await engine.output("cmn0", task, 0, [(service.now_ns, 3)], b"hi\n") == 3
            await engine.ended("cmn0", task, code=7, reason="", out_of_memory=False, time_ns=service.now_ns)
            over = await engine.ledger.wait(job)
            assert (over.life.state, over.life.exit_code) == (State.FAILED, 7)
            assert fold(await engine.ledger.history(over)) == over.life
            log = await engine.logs.find(job.id)
            text = await engine.logs.read(log, None, 0, 10_000)
            assert [line.split(b"] ", 1)[1] for line in text.splitlines()] == [
                b"[daemon] Pit daemon started",
                b"[worker 0] Worker 0 started",
                b"[worker 0] hi",
                b"[worker 0] Worker 0 ended with exit code 7",
                b"[daemon] Worker 0 requested stop. Stopping pit...",
            ]

    run(main)


def test_a_job_sees_its_owners_home_what_is_shared_and_its_own_data(service, run):
    async def main():
        link = Link()
        async with service.running() as engine:
            job, _ = await run_one(service, engine, link)
            assert [(v.source, v.target, v.read_only) for v in link.started[0].volumes] == [
                ("home/ann", "/pfs/dc1/home/ann", False),
                ("shared", "/pfs/dc1/shared", True),
                (f"jobs/{job.id}/data", f"/pfs/dc1/jobs/{job.id}", False),
            ]
            assert link.started[0].workdir == f"/pfs/dc1/jobs/{job.id}/src"
            assert (service.root / f"jobs/{job.id}/data/tmp/hostfile").read_text() == "a-1-0\n"

    run(main)


def test_the_same_idempotency_key_gives_the_same_job(service, run):
    async def main():
        async with service.running() as engine:
            first = await submit(service, engine, key="k")
            assert await submit(service, engine, key="k") == first
            assert await submit(service, engine, key="k", user=service.bob) != first
            assert await submit(service, engine, key="other") not in (first,)

    run(main)


def test_a_server_that_was_killed_finds_every_acknowledged_job_once_and_runs_it(service, run):
    async def main():
        async with service.running() as engine:
            ids = [await submit(service, engine, name=f"j{number}") for number in range(3)]
        link = Link()
        async with Service(service.root).running() as engine:
            await engine.attach(service.node(), link, [])
            with trio.fail_after(20):
                while len(link.started) < 3:
                    await link.heard.wait()
            await wait_all_tasks_blocked()
            assert sorted(int(task.task_id.split(".")[0]) for task in link.started) == ids

    run(main)


def test_a_node_that_comes_back_is_told_what_is_known_of_its_tasks(service, run):
    async def main():
        async with service.running() as engine:
            _, task = await run_one(service, engine, Link())
            await engine.output("cmn0", task, 0, [(service.now_ns, 5)], b"12345")
            killed = await submit(service, engine, name="b")
            await wait_all_tasks_blocked()
            job = await until(engine, await engine.ledger.find(killed, service.ann), State.STARTING)
            await engine.kill(service.ann, job.id)
        again = Link()
        async with Service(service.root).running() as engine:
            standings = await engine.attach(service.node(), again, [task, f"{killed}.1.0.0", "99.1.0.0"])
            assert (standings[task].wanted, standings[task].offset) == (Wanted.RUN, 5)
            assert standings[f"{killed}.1.0.0"].wanted is Wanted.RUN
            assert standings["99.1.0.0"].wanted is Wanted.FORGET
            await heard(again, "stopped")
            await wait_all_tasks_blocked()
            assert again.started == []
            assert again.stopped == [f"{killed}.1.0.0"]

    run(main)


def test_a_task_that_its_node_does_not_have_is_started_if_it_never_ran_and_lost_if_it_did(service, run):
    async def main():
        async with service.running() as engine:
            ran, _ = await run_one(service, engine, Link())
            never = await submit(service, engine, name="b")
            await until(engine, await engine.ledger.find(never, service.ann), State.STARTING)
        again = Link()
        async with Service(service.root).running() as engine:
            await engine.attach(service.node(), again, [])
            lost = await until(engine, ran, State.NODE_LOST)
            assert lost.life.exit_code == 125
            await heard(again, "started")
            assert [task.task_id for task in again.started] == [f"{never}.1.0.0"]

    run(main)


def test_what_a_node_tells_twice_changes_nothing(service, run):
    async def main():
        async with service.running() as engine:
            job, task = await run_one(service, engine, Link())
            for _ in range(2):
                await engine.running("cmn0", task, service.now_ns)
                await engine.output("cmn0", task, 0, [(service.now_ns, 2)], b"x\n")
            for code in (0, 1):
                await engine.ended("cmn0", task, code=code, reason="", out_of_memory=False, time_ns=service.now_ns)
            over = await engine.ledger.wait(job)
            assert over.life.state is State.SUCCEEDED
            log = await engine.logs.find(job.id)
            text = await engine.logs.read(log, None, 0, 10_000)
            assert text.count(b"Worker 0 started") == text.count(b"] x\n") == text.count(b"ended with exit code") == 1

    run(main)


def test_another_node_or_another_attempt_cannot_speak_for_a_task(service, run):
    async def main():
        async with service.running() as engine:
            job, task = await run_one(service, engine, Link())
            await engine.ended("cmother", task, code=1, reason="", out_of_memory=False, time_ns=service.now_ns)
            old = f"{job.id}.0.0.0"
            await engine.ended("cmn0", old, code=1, reason="", out_of_memory=False, time_ns=service.now_ns)
            assert (await engine.ledger.current(job)).life.state is State.RUNNING

    run(main)


def test_a_kill_before_the_start_ends_at_once_and_a_kill_of_a_running_job_stops_its_task(service, run):
    async def main():
        async with service.running() as engine:
            waiting = await engine.ledger.find(await submit(service, engine), service.ann)
            await engine.kill(service.ann, waiting.id)
            assert (await engine.ledger.wait(waiting)).life.state is State.CANCELLED
            link = Link()
            job, task = await run_one(service, engine, link)
            for _ in range(2):
                await engine.kill(service.ann, job.id)
            await heard(link, "stopped")
            await engine.ended("cmn0", task, code=143, reason="", out_of_memory=False, time_ns=service.now_ns)
            assert (await engine.ledger.wait(job)).life.state is State.CANCELLED
            with pytest.raises(PfsError) as caught:
                await engine.kill(service.ann, job.id)
            assert caught.value.kind is Kind.BUSY

    run(main)


def test_somebody_elses_job_is_not_there_and_an_admin_may_end_it(service, run):
    async def main():
        async with service.running() as engine:
            job_id = await submit(service, engine)
            with pytest.raises(PfsError) as caught:
                await engine.kill(service.bob, job_id)
            assert caught.value.kind is Kind.NOT_FOUND
            await engine.kill(service.admin, job_id)

    run(main)


def test_a_job_over_its_time_is_stopped(service, run):
    async def main():
        async with service.running() as engine:
            link = Link()
            job, task = await run_one(service, engine, link, b"command: sleep 9\nmax_duration: 1s\n")
            service.now_ns += 2 * SECOND_NS
            await heard(link, "stopped")
            await engine.ended("cmn0", task, code=143, reason="", out_of_memory=False, time_ns=service.now_ns)
            assert (await engine.ledger.wait(job)).life.state is State.TIMEOUT

    run(main)


def test_every_waiting_job_says_why_and_a_node_that_appears_starts_it(service, run):
    async def main():
        async with service.running() as engine:
            job = await engine.ledger.find(await submit(service, engine, b"image: busybox\ncommand: ls\n"), service.ann)
            await wait_all_tasks_blocked()
            assert engine.why(job).startswith("no node is registered yet")
            await engine.attach(service.node(), Link(), [])
            await wait_all_tasks_blocked()
            assert "needs a node with Docker" in engine.why(job)
            link = Link()
            await engine.attach(service.node("n1", runtimes=("docker",)), link, [])
            await heard(link, "started")

    run(main)


def test_what_could_never_run_is_refused_when_it_is_submitted(service, run):
    async def main():
        async with service.running() as engine:
            await engine.attach(service.node(runtimes=("docker",)), Link(), [])
            spec = b"image: busybox\ncommand: ls\ngroups: [{name: a, resources: {cpu: 100}}]\n"
            with pytest.raises(PfsError, match="n0, has 4"):
                await submit(service, engine, spec)
            assert await engine.ledger.listed(service.ann) == []

    run(main)


def test_src_is_copied_before_the_job_waits_and_a_missing_one_fails_it_with_the_reason(service, run):
    async def main():
        package = service.root / "home/ann/pack/sub"
        package.mkdir(parents=True)
        (package / "x.txt").write_text("x")
        async with service.running() as engine:
            link = Link()
            job, _ = await run_one(service, engine, link, b"command: ls\nsrc: pack\n")
            assert (service.root / f"jobs/{job.id}/data/src/sub/x.txt").read_text() == "x"
            absent = await engine.ledger.find(await submit(service, engine, b"command: ls\nsrc: absent\n"), service.ann)
            over = await engine.ledger.wait(absent)
            assert over.life.state is State.FAILED
            assert "absent" in over.life.reason


def test_src_that_cannot_be_ones_own_is_refused_when_it_is_submitted(service, run):
    async def main():
        async with service.running() as engine:
            for src in ("/pfs/dc1/home/bob", "/pfs/dc1/jobs/1"):
                with pytest.raises(PfsError, match="src"):
                    await submit(service, engine, f"command: ls\nsrc: {src}\n".encode())

    run(main)


def test_a_signal_reaches_the_task_of_a_running_job_only(service, run):
    async def main():
        async with service.running() as engine:
            waiting = await submit(service, engine, b"image: busybox\ncommand: ls\n", name="b")
            with pytest.raises(PfsError) as caught:
                await engine.signal(service.ann, waiting, 10)
            assert caught.value.kind is Kind.BUSY
            link = Link()
            job, task = await run_one(service, engine, link)
            await engine.signal(service.ann, job.id, 10)
            assert link.signals == [(task, 10)]

    run(main)


def test_a_database_that_refuses_for_a_while_stops_neither_the_service_nor_the_job(service, run, monkeypatch):
    async def main():
        monkeypatch.setattr("jobd.engine.chores.AGAIN_S", 0.01)
        real, failures = service.store.record, []

        async def record(*args: object) -> None:
            if len(failures) < 3:
                failures.append(args)
                raise OSError(28, "No space left on device")
            await real(*args)

        monkeypatch.setattr(service.store, "record", record)
        async with service.running() as engine:
            job, _ = await run_one(service, engine, Link())
            assert job.life.state is State.RUNNING
            assert len(failures) == 3

    run(main)


def test_events_are_told_in_order(service, run):
    async def main():
        async with service.running() as engine:
            job, _ = await run_one(service, engine, Link())
            kinds = [type(event) for event in await engine.ledger.history(job)]
            assert kinds == [happened.Submitted, happened.Prepared, happened.Placed, happened.Started]

    run(main)
