"""A cluster and its queue.

    node NAME [offline] [docker] [sandbox] cpus=8 memory=16GiB [processes=64] [used=cpus,memory,processes]
    job NUMBER [image] [priority=50] [cpus=2] [memory=1GiB] [gpu=gtx1070:2]

`plan` and `refuse` take both kinds of lines. `plan` shows what starts and why the others wait, `refuse` what would be
said to each job when it is submitted.
"""

from jobd.scheduling.scheduler import NodeView, Pending, plan, refuse
from jobd.spec.units import parse_size
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        lines = [line.split() for line in step.text.splitlines()]
        nodes = [_node(words) for words in lines if words[0] == "node"]
        jobs = [_job(words) for words in lines if words[0] == "job"]
        if step.words == ("refuse",):
            return "\n".join(f"{job.job_id}: {refuse(job, nodes) or 'accepted'}" for job in jobs)
        assert step.words == ("plan",)
        made = plan(jobs, nodes)
        starts = [f"start {placement.job_id} on {placement.node_id}" for placement in made.starts]
        return "\n".join(starts + [f"{job_id} waits: {reason}" for job_id, reason in made.reasons.items()])

    return handle


def _node(words: list[str]) -> NodeView:
    given = _pairs(words)
    used = given.get("used", "0,0GiB,0").split(",")
    return NodeView(
        node_id=words[1],
        name=words[1],
        online="offline" not in words,
        runtimes=frozenset({"docker", "sandbox"} & set(words)),
        cpus=float(given.get("cpus", "8")),
        memory_bytes=parse_size(given.get("memory", "16GiB")),
        max_processes=int(given.get("processes", "64")),
        used_cpus=float(used[0]),
        used_memory_bytes=parse_size(used[1]),
        used_processes=int(used[2]),
    )


def _job(words: list[str]) -> Pending:
    given = _pairs(words)
    model, _, count = given.get("gpu", "").partition(":")
    return Pending(
        job_id=int(words[1]),
        priority=int(given.get("priority", "50")),
        needs_image="image" in words,
        cpus=float(given["cpus"]) if "cpus" in given else None,
        memory_bytes=parse_size(given["memory"]) if "memory" in given else None,
        gpus=((int(count), model),) if count else (),
    )


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
