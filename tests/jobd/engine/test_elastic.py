"""Jobs whose processes are replaced when they fail, and jobs that have more or fewer of them as there is room."""

from collections.abc import Callable, Sequence
from typing import Any

import trio

from jobd.engine.fleet import LOST_AFTER_S
from jobd.life.life import Life, State, missing
from jobd.wire import Assignment
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import SECOND_NS, Service
from tests.jobd.engine.drive import BOUND_S, Drive, Node, driving

IMAGE: dict[str, Any] = {"runtimes": ["docker"]}
TOLERANT = "entry: x\nimage: paddle\nparallelism: 2\npservers: 1\nfaulttolerant: true\n"
ELASTIC = "entry: x\nimage: paddle\nmin_instance: 1\nmax_instance: 3\npservers: 1\nmemory: 2Gi\n"
ALONE = "groups: [{name: w, command: x, image: paddle, resources: {memory: 2GiB}}]\n"


async def starts(node: Node, *tasks: str) -> None:
    """Wait until the node was asked to start these, and tell that they run."""
    await node.heard(lambda link: {task.task_id for task in link.started} >= set(tasks))
    await node.runs(*tasks)


async def until(drive: Drive, job: int, is_so: Callable[[Life], object]) -> Life:
    """Return the life of a job once something is so of it."""
    with trio.fail_after(BOUND_S):
        while not is_so(await drive.life(job)):
            active = drive.engine.ledger.get(job)
            assert active is not None, await drive.life(job)
            await active.changed.wait()
    return await drive.life(job)


async def begun(drive: Drive, node: Node, text: str, *workers: str) -> tuple[int, list[str]]:
    """Submit a job of PaddleCloud's kind; return its number, and its tasks once they run: first the server's."""
    job = await drive.submit(text)
    tasks = [f"{job}.1.1.0", *(f"{job}.1.0.{worker}" for worker in workers)]
    await starts(node, tasks[0])
    await starts(node, *tasks[1:])
    return job, tasks


def began(node: Node) -> Sequence[str]:
    return [task.task_id for task in node.link.started]


# ---- what fails is replaced


def test_a_trainer_that_fails_is_started_again_in_its_place(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (server, first, second) = await begun(drive, node, TOLERANT, "0", "1")
            await node.ends(first, code=3)
            await starts(node, f"{job}.2.0.0")
            (again,) = [task for task in node.link.started if task.task_id == f"{job}.2.0.0"]
            assert (again.env["PFS_ATTEMPT"], again.env["PADDLE_TRAINER_ID"], again.env["TRAINERS"]) == ("2", "0", "2")
            assert again.env["RESULT_FILE"].endswith("result.2.0.0")
            await node.ends(f"{job}.2.0.0", second)
            await node.stops(server)
            await node.ends(server, code=143)
            life = await drive.until(job, State.SUCCEEDED)
            assert (life.attempt, life.losses, life.exit_code) == (1, 1, 0)
            texts = await drive.texts(job)
            assert "[daemon] Worker 0 is started again (failure 1 of 2)" in texts
            assert texts.count("[worker 0] Worker 0 started") == 2

    run(main)


def test_a_trainer_that_is_started_again_has_its_share_of_the_list_once_more(
    service: Service, run: Callable[..., None]
) -> None:
    package = service.root / "home/ann/emb"
    package.mkdir(parents=True)
    (package / "train.list").write_text("a\nb\nc\n")

    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (server, first, second) = await begun(drive, node, f"{TOLERANT}job_package: emb\n", "0", "1")
            await node.ends(second, code=3)
            await starts(node, f"{job}.2.0.1")
            files = {task.task_id: task.files for task in node.link.started}
            assert files[server] == {}
            count = {"trainer_count": b"2\n"}
            assert files[first] == {"trainer_id": b"0\n", "train.list": b"a\n", **count}
            assert files[second] == files[f"{job}.2.0.1"] == {"trainer_id": b"1\n", "train.list": b"b\nc\n", **count}

    run(main)


def test_a_list_with_too_few_lines_fails_a_job_without_a_trainer_that_starts(
    service: Service, run: Callable[..., None]
) -> None:
    package = service.root / "home/ann/emb"
    package.mkdir(parents=True)
    (package / "train.list").write_text("a\n")

    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            text = "entry: x\nimage: paddle\nparallelism: 2\npservers: 1\njob_package: emb\n"
            job = await drive.submit(text)
            server = f"{job}.1.1.0"
            await starts(node, server)
            await node.stops(server)
            await node.ends(server, code=143)
            life = await drive.until(job, State.FAILED)
            assert "train.list has fewer lines (1) than the job has trainers (2)" in life.reason
            assert life.exit_code not in (None, 0)
            assert began(node) == [server]

    run(main)


def test_what_the_one_before_wrote_and_told_is_not_mixed_with_it(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (_, first, _) = await begun(drive, node, TOLERANT, "0", "1")
            await drive.engine.output(node.id, first, 0, [(1, 4)], b"one\n")
            await node.ends(first, code=3)
            await starts(node, f"{job}.2.0.0")
            await drive.engine.output(node.id, first, 0, [(1, 4)], b"old\n")
            await node.ends(first, code=3)
            await drive.engine.output(node.id, f"{job}.2.0.0", 0, [(1, 4)], b"two\n")
            log = await drive.engine.log_of(await drive.job(job))
            assert await drive.engine.logs.read(log, 0, 0, 100) == b"one\ntwo\n"
            life = await drive.life(job)
            assert (life.losses, life.processes[0].over, life.processes[0].before) == (1, False, "exit code 3")

    run(main)


def test_one_failure_too_many_fails_the_job_with_the_numbers(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (server, *tasks) = await begun(drive, node, TOLERANT, "0", "1")
            for task in (tasks[0], f"{job}.2.0.0"):
                await node.ends(task, code=1)
                await starts(node, task.replace(".2.", ".3.").replace(".1.0.0", ".2.0.0"))
            await node.ends(tasks[1], code=9, reason="killed by SIGKILL")
            await node.stops(server, f"{job}.3.0.0")
            await node.ends(server, f"{job}.3.0.0", code=143)
            life = await drive.until(job, State.FAILED)
            assert life.reason == "worker 1: killed by SIGKILL (failure 3; at most 2 are made up for)"
            assert life.exit_code == 9

    run(main)


def test_a_parameter_server_that_fails_is_replaced_too(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (server, *_) = await begun(drive, node, TOLERANT, "0", "1")
            await node.ends(server, code=1)
            await starts(node, f"{job}.2.1.0")
            assert (await drive.life(job)).state is State.RUNNING

    run(main)


def test_without_that_mode_the_first_failure_fails_the_job(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            text = TOLERANT.replace("true", "false")
            job, (server, first, second) = await begun(drive, node, text, "0", "1")
            await node.ends(first, code=3)
            await node.stops(server, second)
            assert (await drive.life(job)).state is State.STOPPING

    run(main)


def test_what_was_lost_with_its_node_gets_a_place_elsewhere(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            swarm: dict[str, Any] = {"attrs": {"swarm": "s", "swarmManager": True, "offerMemory": 3 << 30}, **IMAGE}
            nodes = {name: await drive.attach(name, **swarm) for name in ("n0", "n1", "n2")}
            job = await drive.submit(TOLERANT.replace("faulttolerant", "memory: 2Gi\nfaulttolerant"))
            life = await drive.until(job, State.STARTING)
            at = {worker: nodes[each.node.removeprefix("cm")] for worker, each in enumerate(life.processes)}
            await starts(at[2], f"{job}.1.1.0")
            for worker in (0, 1):
                await starts(at[worker], f"{job}.1.0.{worker}")
            assert at[0] is not at[1]
            (other,) = [node for node in nodes.values() if node not in (at[0], at[1])]
            lost = at[0] if at[2] is not at[0] else at[1]
            worker = 0 if lost is at[0] else 1
            lost.leaves()
            for _ in range(2):  # as long as its watchdog lets it run
                service.now_ns += int(LOST_AFTER_S * SECOND_NS)
                for node in nodes.values():
                    if node is not lost:
                        drive.engine.heard(node.id)
                await drive.quiet()
            await starts(other, f"{job}.2.0.{worker}")
            life = await drive.life(job)
            assert (life.state, life.losses, life.processes[worker].node) == (State.RUNNING, 0, other.id)
            assert f"[daemon] Worker {worker} has a place now" in await drive.texts(job)

    run(main)


def test_a_restart_goes_on_with_the_ones_that_were_replaced(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            job, (server, first, second) = await begun(drive, node, TOLERANT, "0", "1")
            await node.ends(first, code=3)
            await starts(node, f"{job}.2.0.0")
            before = await drive.life(job)
        async with driving(service) as drive:
            assert await drive.life(job) == before
            node = await drive.attach(**IMAGE, tasks=[server, first, f"{job}.2.0.0", second])
            wanted = {task for task, standing in node.standings.items() if standing.wanted.value == "run"}
            assert wanted == {server, f"{job}.2.0.0", second}
            await drive.quiet()
            assert began(node) == []

    run(main)


def refuses_once(node: Node, ending: str) -> None:
    """Let a node refuse the first task whose number ends so."""
    start, refused = node.link.start, []

    async def refuse(task: Assignment) -> None:
        if task.task_id.endswith(ending) and not refused:
            refused.append(task.task_id)
            raise PfsError(Kind.BUSY, "it is full")
        await start(task)

    node.link.start = refuse  # type: ignore[method-assign]


def test_one_that_its_node_does_not_take_after_all_gets_another_place_and_the_job_goes_on(
    service: Service, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            refuses_once(node, ".2.0.0")
            job, (_, first, _) = await begun(drive, node, TOLERANT, "0", "1")
            await node.ends(first, code=1)
            await starts(node, f"{job}.3.0.0")
            life = await drive.life(job)
            assert (life.state, life.attempt, life.losses) == (State.RUNNING, 1, 2)

    run(main)


def test_an_extra_one_that_its_node_does_not_take_is_no_failure(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE)
            refuses_once(node, ".1.0.2")
            job, _ = await begun(drive, node, ELASTIC, "0", "1")
            await starts(node, f"{job}.2.0.2")
            life = await drive.life(job)
            assert (life.state, life.attempt, life.first_failure) == (State.RUNNING, 1, None)

    run(main)


# ---- more or fewer, as there is room


def test_a_job_gets_more_trainers_while_nobody_else_needs_the_room(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 8 << 30})
            job, _ = await begun(drive, node, ELASTIC, "0", "1", "2")
            life = await drive.life(job)
            assert [bool(each.node) for each in life.processes] == [True] * 4
            told = {task.task_id: task.env["TRAINERS"] for task in node.link.started}
            assert (told[f"{job}.1.0.1"], told[f"{job}.1.0.2"]) == ("3", "3")
            assert len(node.link.started[-1].hosts) == 4

    run(main)


def test_it_begins_with_as_many_as_it_needs_and_grows_when_there_is_room(
    service: Service, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 5 << 30})
            other = await drive.submit(ALONE)
            await starts(node, f"{other}.1.0.0")
            job, _ = await begun(drive, node, ELASTIC, "0")
            await drive.quiet()
            assert len(node.link.started) == 3
            (first,) = [task for task in node.link.started if task.task_id == f"{job}.1.0.0"]
            assert (first.env["TRAINERS"], first.env["PADDLE_TRAINER_IPS"]) == ("1", first.hostname)
            await node.ends(f"{other}.1.0.0")
            await starts(node, f"{job}.1.0.1")
            assert missing(await drive.life(job)) == ()

    run(main)


def test_it_gives_up_a_trainer_for_a_job_that_waits_and_that_is_no_failure(
    service: Service, run: Callable[..., None]
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 5 << 30})
            job, tasks = await begun(drive, node, ELASTIC, "0", "1")
            other = await drive.submit(ALONE)
            await node.stops(tasks[2])
            await drive.quiet()
            assert node.link.stopped == [tasks[2]], "no more than what helps"
            assert (await drive.life(other)).state is State.WAITING
            await node.ends(tasks[2], code=143)
            await starts(node, f"{other}.1.0.0")
            life = await drive.life(job)
            assert (life.state, life.losses, life.processes[1].failed) == (State.RUNNING, 0, None)
            assert f"[daemon] Worker 1 is stopped: job {other} has its place" in await drive.texts(job)
            await node.ends(f"{other}.1.0.0")
            await starts(node, f"{job}.2.0.1")
            await node.ends(tasks[1], f"{job}.2.0.1")
            await node.stops(tasks[0])
            await node.ends(tasks[0], code=143)
            await drive.until(job, State.SUCCEEDED)

    run(main)


def test_it_never_has_fewer_than_it_needs(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 3 << 30})
            job, tasks = await begun(drive, node, ELASTIC, "0")
            other = await drive.submit(ALONE)
            await drive.quiet()
            assert node.link.stopped == []
            assert (await drive.life(other)).state is State.WAITING
            await node.ends(tasks[1])
            await node.stops(tasks[0])
            assert (await drive.life(job)).state is State.STOPPING

    run(main)


def test_nothing_grows_on_what_somebody_waits_for(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 7 << 30})
            first = await drive.submit(ALONE)
            await starts(node, f"{first}.1.0.0")
            large = await drive.submit(ALONE.replace("2GiB", "6GiB"))
            job, _ = await begun(drive, node, ELASTIC.replace("image", "max_duration: 1h\nimage"), "0")
            await drive.quiet()
            assert (await drive.life(large)).state is State.WAITING
            assert len([task for task in began(node) if task.startswith(f"{job}.")]) == 2

    run(main)


def test_once_a_trainer_is_done_no_more_are_added(service: Service, run: Callable[..., None]) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            node = await drive.attach(**IMAGE, attrs={"offerMemory": 7 << 30})
            other = await drive.submit(ALONE)
            await starts(node, f"{other}.1.0.0")
            job, tasks = await begun(drive, node, ELASTIC, "0", "1")
            await node.ends(tasks[1])
            await node.ends(f"{other}.1.0.0")
            await drive.quiet()
            assert len([task for task in began(node) if task.startswith(f"{job}.")]) == 3
            await until(drive, job, lambda life: life.processes[0].code == 0)

    run(main)
