"""What `why` says of jobs in every situation: the sentences, and that no kind of reason is without one.

The reasons of jobs that wait for nodes, and of those that are refused, are in `tests/scripts/scheduler`; what the life
of a job makes of the ends of its processes is in `tests/scripts/lifecycle`; the others are here.
"""

import ast
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.engine.dependencies import never
from jobd.job import Job
from jobd.life.events import StartFailed
from jobd.life.life import State
from jobd.spec.model import AFTER_ANY, Dependency
from jobd.wire import OUT_OF_MEMORY, NodeGpu, encode_gpus
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import Drive, driving

ROOT = Path(__file__).parents[3]
SITUATIONS: dict[str, Callable[[Drive], Awaitable[Job | int]]] = {}

# by the situation below; T is any time
SENTENCES = {
    "waits for another job": "waits for job 1 to succeed, which is WAITING",
    "waits for several jobs": "waits for job 1 to be over, which is WAITING, and for 1 more",
    "held": "held by ann until it is released: echo release > ctl",
    "array": "2 of 2 tasks are not over",
    "about to wait": "it is about to wait for nodes",
    "prepares": "its files are being brought together",
    "about to be placed": "it is about to be placed on a node",
    "being started": "it is being started on n0",
    "runs": "it runs on n0 since T",
    "runs with a limit": "it runs on n0 since T, until T at the latest",
    "its node is away": (
        "its node n0 is UNKNOWN, not heard of since T; it goes on there; "
        "if that never comes back, administrators write lost to ctl"
    ),
    "the engine of its node is silent": "on its node n0 the container engine has not answered for 20 s",
    "its GPU is not well": "a GPU that it has on n0 is not well: it is lost",
    "fetches its image": "n0: pulling python: 1 of 2",
    "lacks a process": "worker 1 waits for another place: no such image: foo",
    "stops": "it is being stopped",
    "stops by a kill": "killed by ann",
    "succeeded": "it succeeded: all of its processes ended with exit code 0",
    "failed": "exit code 3; the end of log.txt has its last words",
    "failed for want of a program": (
        "a program was not found; is everything that it calls in the userland of its node? "
        "the end of log.txt has its last words"
    ),
    "failed by one of several": "worker 1: exit code 3; the end of log.txt has its last words",
    "waits for another attempt": (
        "attempt 1 failed, retry 1 of 2: exit code 3; no node is online; 1 node is registered; place 1 of 1"
    ),
    "waits to run again": ("to run again, as ann wants; no node is online; 1 node is registered; place 1 of 1"),
    "was not started": "no such image: foo",
    "out of memory": f"{OUT_OF_MEMORY}; each process may have 1GiB; ask for more `memory`",
    "out of memory without a limit": (
        f"{OUT_OF_MEMORY}; its node has no more; ask for more `memory` than it took, and it gets a node with that"
    ),
    "out of time": (
        "reached its time limit; its max_duration of 100 s was too short; "
        "write a longer one, or `extend 2h` to ctl while it runs"
    ),
    "killed": "killed by ann",
    "depends in vain": "it waited for job 1 to succeed, and that is FAILED",
    "depends on what is no more": "it waited for job 7 to be over, and that was removed",
    "lost by a word": (
        "root said that the node n0 will not come back; with retry: {max: 1, on: [node]} it would run again elsewhere"
    ),
    "lost with its machine": (
        "the node n0 was started again; with retry: {max: 1, on: [node]} it would run again elsewhere"
    ),
}


def situation(kind: str) -> Callable[[Callable[[Drive], Awaitable[Job | int]]], None]:
    """Note how a situation comes about; it returns the job that is asked about, or its number."""

    def noted(make: Callable[[Drive], Awaitable[Job | int]]) -> None:
        SITUATIONS[kind] = make

    return noted


@situation("waits for another job")
async def _(drive: Drive) -> int:
    first = await drive.submit()
    return await drive.submit(f"command: x\ndepends_on: [{first}]\n", name="b")


@situation("waits for several jobs")
async def _(drive: Drive) -> int:
    first, second = await drive.submit(), await drive.submit(name="b")
    return await drive.submit(f'command: x\ndepends_on: ["afterany:{first}", {second}]\n', name="c")


@situation("held")
async def _(drive: Drive) -> int:
    return await drive.submit("command: x\nhold: true\n")


@situation("array")
async def _(drive: Drive) -> int:
    return await drive.submit("command: x\narray: 0-1\n")


async def in_passing(drive: Drive, state: State, reason: str = "") -> Job:
    """Return a job as it is for a moment, about which nobody but its own record knows anything."""
    job = await drive.job(await ended(drive))
    return replace(job, life=replace(job.life, state=state, reason=reason))


@situation("about to wait")
async def _(drive: Drive) -> Job:
    return await in_passing(drive, State.PENDING)


@situation("prepares")
async def _(drive: Drive) -> Job:
    return await in_passing(drive, State.PREPARING)


@situation("about to be placed")
async def _(drive: Drive) -> Job:
    return await in_passing(drive, State.WAITING)


@situation("stops")
async def _(drive: Drive) -> Job:
    return await in_passing(drive, State.STOPPING)


@situation("depends on what is no more")
async def _(drive: Drive) -> Job:
    return await in_passing(drive, State.CANCELLED, str(never([Dependency(7, AFTER_ANY)], {})))


@situation("its GPU is not well")
async def _(drive: Drive) -> int:
    gpu = NodeGpu("GPU-0", 0, "X", 8 << 30)
    job = await drive.submit("command: x\ngroups: [{resources: {gpu: 1}}]\n")
    node = await drive.attach(gpus=encode_gpus([gpu]))
    (task,) = await node.starts()
    await node.runs(task.task_id)
    await drive.engine.gpus(node.id, [replace(gpu, ill="it is lost")], {})
    return job


@situation("being started")
async def _(drive: Drive) -> int:
    job, node = await drive.submit(), await drive.attach()
    await node.starts()
    return job


@situation("runs")
async def _(drive: Drive) -> int:
    return (await drive.one_runs())[0]


@situation("runs with a limit")
async def _(drive: Drive) -> int:
    return (await drive.one_runs("command: x\nmax_duration: 100s\n"))[0]


@situation("its node is away")
async def _(drive: Drive) -> int:
    job, node, _ = await drive.one_runs()
    node.leaves()
    drive.service.now_ns += 70 * SECOND_NS
    return job


@situation("the engine of its node is silent")
async def _(drive: Drive) -> int:
    job, node, _ = await drive.one_runs()
    drive.engine.troubled(node.id, {"sandbox": "the container engine has not answered for 20 s"})
    return job


@situation("fetches its image")
async def _(drive: Drive) -> int:
    job, node = await drive.submit(), await drive.attach()
    (task,) = await node.starts()
    await drive.engine.news(node.id, task.task_id, "pulling python: 1 of 2", drive.service.now_ns)
    return job


@situation("stops by a kill")
async def _(drive: Drive) -> int:
    job, node, task = await drive.one_runs()
    await drive.engine.kill(drive.service.ann, job)
    await node.stops(task)
    return job


async def ended(drive: Drive, text: str = "command: x\n", code: int = 0, reason: str = "", **more: bool) -> int:
    """Return a job whose only process is over."""
    job, node, task = await drive.one_runs(text)
    await node.ends(task, code=code, reason=reason, **more)
    return job


@situation("succeeded")
async def _(drive: Drive) -> int:
    return await ended(drive)


@situation("failed")
async def _(drive: Drive) -> int:
    return await ended(drive, code=3)


@situation("failed for want of a program")
async def _(drive: Drive) -> int:
    return await ended(drive, code=127, reason="a program was not found")


@situation("failed by one of several")
async def _(drive: Drive) -> int:
    job, node, tasks = await drive.gang_runs("command: x\ngroups: [{count: 2}]\n", 2)
    await node.ends(tasks[1], code=3)
    await node.ends(tasks[0], code=143)
    return job


async def with_no_node(drive: Drive, text: str, act: Callable[[int], Awaitable[None]]) -> int:
    """Return a job that was ended by something, and waits again, with its node away."""
    job, node, task = await drive.one_runs(text)
    await act(job)
    node.leaves()
    drive.service.now_ns += 70 * SECOND_NS
    await drive.quiet()
    node = await drive.attach(tasks=[task])
    await drive.engine.drain(drive.service.admin, [node.id], "")
    await node.ends(task, code=3)
    await drive.until(job, State.WAITING)
    node.leaves()
    drive.service.now_ns += 70 * SECOND_NS
    return job


@situation("waits for another attempt")
async def _(drive: Drive) -> int:
    async def nothing(job: int) -> None:
        pass

    return await with_no_node(drive, "command: x\nretry: {max: 2, on: [error]}\n", nothing)


@situation("waits to run again")
async def _(drive: Drive) -> int:
    async def again(job: int) -> None:
        await drive.engine.requeue(drive.service.ann, job)

    return await with_no_node(drive, "command: x\n", again)


@situation("was not started")
async def _(drive: Drive) -> int:
    job, node = await drive.submit(), await drive.attach()
    (task,) = await node.starts()
    await node.ends(task.task_id, code=125, reason="no such image: foo")
    return job


@situation("out of memory")
async def _(drive: Drive) -> int:
    text = "command: x\nimage: python\ngroups: [{resources: {memory: 1GiB}}]\n"
    job, node = await drive.submit(text), await drive.attach(runtimes=["docker"])
    (task,) = await node.starts()
    await node.runs(task.task_id)
    await node.ends(task.task_id, code=137, reason=OUT_OF_MEMORY, out_of_memory=True)
    return job


@situation("out of memory without a limit")
async def _(drive: Drive) -> int:
    return await ended(drive, code=137, reason=OUT_OF_MEMORY, out_of_memory=True)


@situation("out of time")
async def _(drive: Drive) -> int:
    job, node, task = await drive.one_runs("command: x\nmax_duration: 100s\n")
    drive.service.now_ns += 101 * SECOND_NS
    await node.stops(task)
    await node.ends(task, code=143)
    return job


@situation("killed")
async def _(drive: Drive) -> int:
    job, node, task = await drive.one_runs()
    await drive.engine.kill(drive.service.ann, job)
    await node.stops(task)
    await node.ends(task, code=143)
    return job


@situation("depends in vain")
async def _(drive: Drive) -> int:
    first = await drive.submit("command: x\nhold: true\n")
    second = await drive.submit(f"command: x\ndepends_on: [{first}]\n", name="b")
    await drive.engine.release(drive.service.ann, first)
    node = await drive.attach()
    (task,) = await node.starts()
    await node.runs(task.task_id)
    await node.ends(task.task_id, code=3)
    await drive.until(second, State.CANCELLED)
    return second


@situation("lost by a word")
async def _(drive: Drive) -> int:
    job, node, _ = await drive.one_runs()
    node.leaves()
    drive.service.now_ns += 70 * SECOND_NS
    await drive.quiet()
    await drive.engine.give_up(drive.service.admin, job)
    return job


@situation("lacks a process")
async def _(drive: Drive) -> int:
    job = await drive.submit("entry: x\nimage: paddle\nparallelism: 2\npservers: 1\nfaulttolerant: true\n")
    node = await drive.attach(runtimes=["docker"])
    await node.heard(lambda link: link.started)
    await node.runs(f"{job}.1.1.0")
    await node.starts(3)
    await drive.engine.drain(drive.service.admin, [node.id], "")
    failed = StartFailed(time_ns=drive.service.now_ns, worker=1, text="no such image: foo")
    await drive.engine._flow.apply(drive.engine.ledger.get(job), failed)
    return job


@situation("lost with its machine")
async def _(drive: Drive) -> int:
    job, node, _ = await drive.one_runs()
    node.leaves()
    await drive.attach(boot_id="another")
    await drive.until(job, State.NODE_LOST)
    return job


@pytest.mark.parametrize("kind", SENTENCES)
def test_why_says(service, run, kind: str):
    async def main():
        async with driving(service) as drive:
            job = await SITUATIONS[kind](drive)
            await drive.quiet()
            said = drive.engine.why(await drive.job(job) if isinstance(job, int) else job)
            assert re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "T", said) == SENTENCES[kind]

    run(main)


# ---- no kind of reason without a sentence

# where reasons are made; None: all over the module
MAKERS: dict[str, tuple[str, ...] | None] = {
    "jobd/scheduling/explain.py": None,
    "jobd/scheduling/feasible.py": None,
    "jobd/scheduling/quotas.py": ("Obstacle",),
    "jobd/life/steps.py": None,
    "jobd/engine/dependencies.py": ("never", "waits_for", "_words"),
    "jobd/engine/advice.py": None,
    "jobd/engine/engine.py": ("standing", "_away", "_troubled", "_ailing"),
}
HOLE = re.compile(r"\\\{\w+(?::[^}]*)?\\\}")  # of str.format


def golden() -> str:
    """Return all sentences that tests hold fast."""
    scripts = [path for kind in ("scheduler", "lifecycle") for path in (ROOT / "tests/scripts" / kind).glob("*.txt")]
    return "\n".join([*(path.read_text() for path in scripts), *SENTENCES.values()])


def reasons() -> Iterator[tuple[str, str]]:
    """Yield where each text of two words or more is made, and a pattern of what it becomes."""
    for name, makers in MAKERS.items():
        tree = ast.parse((ROOT / name).read_text())
        defined = [node for node in ast.walk(tree) if getattr(node, "name", None) in (makers or ())]
        assert len(defined) == len(makers or ())
        for top in defined or [tree]:
            for node in texts(top):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                words = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
                if len(re.findall(r"[a-z]{2,}", words)) > 1:
                    pattern = HOLE.sub(".*", re.escape(words)).replace("\0", ".*")
                    yield f"{name}, line {node.lineno}: {words.replace(chr(0), '…')}", pattern


def texts(top: ast.AST) -> Iterator[ast.JoinedStr | ast.Constant]:
    """Yield the texts in a piece of code, but for its docstrings, annotations, and what is raised."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(top):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(body[0].value)
        left_out = [node.returns] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
        left_out += [node.annotation] if isinstance(node, ast.arg | ast.AnnAssign) else []
        left_out += [node.exc] if isinstance(node, ast.Raise) else []
        left_out += node.values if isinstance(node, ast.JoinedStr) else []
        skipped |= {below for each in left_out if each is not None for below in ast.walk(each)}
    yield from (
        node
        for node in ast.walk(top)
        if node not in skipped
        and (isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)))
    )


def test_no_kind_of_reason_is_without_a_sentence_that_holds_it_fast():
    known = golden()
    assert [where for where, pattern in reasons() if re.search(pattern, known) is None] == []


def test_the_table_has_every_situation():
    assert SITUATIONS.keys() == SENTENCES.keys()
