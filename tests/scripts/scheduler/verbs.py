"""A cluster and its queue.

    node NAME [offline] [docker] [sandbox] cpus=8 memory=16GiB processes=64 gpus=2:gtx1070,gtx1060@ml+nlp groups=ml
         swarm=S address=A cpuCount=4 closed=drained_by_ann trouble=docker:it_is_silent ill=0:it_is_lost+1:it_is_lost
         mostcpus=2 mostmemory=4GiB mostshm=1GiB
         cluster=ID owner=ann images=python+team/* registries=r.example.org
    job NUMBER [REQUEST] [image|image=NAME] user=ann priority=50 cpus=2 memory=1GiB max=2h groups=ml array=7/2
         shm=1GiB nodes=n0+n1 require=cpuCount>=4+kind=big cluster=ID
    run NUMBER on=n0+n1 user=ann gpus=2 cpus=1 memory=1GiB processes=1 until=3600 array=7
    used USER SECONDS
    alias NAME=MODEL
    cluster ID=NAME
    limit HOLDER running=2 gpus=4        of a user, or of groups/NAME
    member USER=GROUP+GROUP

A request is a cluster request, with `any` for GPUs of every model. A running job has the first GPUs that are free, so
many on each of its nodes. The number of a job is its arrival, and it is 1970-01-01 unless `now=SECONDS` is said.
`plan` shows what starts and why the others wait, `why` why all of them wait before anything starts, `refuse` what is
said to each job when it is submitted, `queue` the order of those that wait, and `lost` the jobs that wait in vain.
"""

from jobd.imagerules import ImageRules
from jobd.scheduling.model import Gpu, IllGpu, Need, NodeView, Pending, Running, Start, Use
from jobd.scheduling.quotas import JobLimits
from jobd.scheduling.scheduler import Scheduler
from jobd.spec.model import Requirement
from jobd.spec.request import parse_request
from jobd.spec.units import parse_duration, parse_size
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        lines = [line.split() for line in step.text.splitlines()]
        scheduler = Scheduler()
        scheduler.aliases(dict(words[1].split("=") for words in lines if words[0] == "alias"))
        scheduler.clusters(dict(words[1].split("=") for words in lines if words[0] == "cluster"))
        nodes = {words[1]: _node(words) for words in lines if words[0] == "node"}
        for view in nodes.values():
            scheduler.node(view)
        taken: set[str] = set()
        for words in lines:
            if words[0] == "run":
                scheduler.started(_running(words, nodes, taken))
            elif words[0] == "used":
                scheduler.usage(words[1], float(words[2]))
        scheduler.limits(
            {words[1]: _limits(words) for words in lines if words[0] == "limit"},
            {user: _set(names) for words in lines if words[0] == "member" for user, names in _pairs(words).items()},
        )
        jobs = [_job(words) for words in lines if words[0] == "job"]
        if step.words[0] == "refuse":
            said = {job.job_id: scheduler.refuse(job) or scheduler.forbidden(job) for job in jobs}
            return "\n".join(f"{job_id}: {why or 'accepted'}" for job_id, why in said.items())
        for job in jobs:
            scheduler.add(job)
        now_s = float(_pairs(list(step.words)).get("now", "0"))
        if step.words[0] == "queue":
            return " ".join(map(str, scheduler.queue(now_s)))
        if step.words[0] == "lost":
            return "\n".join(f"{job_id}: {reason}" for job_id, reason in scheduler.lost(now_s).items())
        assert step.words[0] in ("plan", "why")
        shown = [_shown(made) for made in scheduler.plan(now_s)] if step.words[0] == "plan" else []
        return "\n".join(
            shown + [f"{each} waits: {scheduler.why(each, now_s).text}" for each in scheduler.queue(now_s)]
        )

    return handle


def _shown(made: Start) -> str:
    places = [" ".join((place.node_id, *place.gpus)) for place in made.places]
    return f"start {made.job_id} on {', '.join(places)}"


def _node(words: list[str]) -> NodeView:
    given = _pairs(words)
    gpus: list[Gpu] = []
    for item in filter(None, given.get("gpus", "").split(",")):
        counted, _, groups = item.partition("@")
        count, _, model = counted.rpartition(":")
        first = len(gpus)
        gpus += [Gpu(f"{words[1]}.{first + i}", model, _set(groups)) for i in range(int(count or "1"))]
    ill = dict(each.split(":", 1) for each in filter(None, given.get("ill", "").split("+")))
    return NodeView(
        node_id=words[1],
        name=words[1],
        online="offline" not in words,
        runtimes=frozenset({"docker", "sandbox"} & set(words)),
        cpus=float(given.get("cpus", "8")),
        memory_bytes=parse_size(given.get("memory", "16GiB")),
        max_processes=int(given.get("processes", "64")),
        attrs=given,
        most_cpus=float(given["mostcpus"]) if "mostcpus" in given else None,
        most_memory_bytes=parse_size(given["mostmemory"]) if "mostmemory" in given else None,
        most_shm_bytes=parse_size(given["mostshm"]) if "mostshm" in given else None,
        gpus=tuple(gpu for index, gpu in enumerate(gpus) if str(index) not in ill),
        groups=_set(given.get("groups", "")),
        swarm=given.get("swarm", ""),
        closed=given.get("closed", "").replace("_", " "),
        troubles=dict(each.replace("_", " ").split(":", 1) for each in filter(None, [given.get("trouble")])),
        ill=tuple(IllGpu(gpus[int(index)], why.replace("_", " ")) for index, why in ill.items()),
        cluster=given.get("cluster", ""),
        owner=given.get("owner", ""),
        images=ImageRules(_names(given.get("images")), _names(given.get("registries"))),
    )


def _running(words: list[str], nodes: dict[str, NodeView], taken: set[str]) -> Running:
    given = _pairs(words)
    uses = []
    for name in given["on"].split("+"):
        free = [gpu.uuid for gpu in nodes[name].gpus if gpu.uuid not in taken]
        gpus = free[: int(given.get("gpus", "0"))]
        taken.update(gpus)
        memory_bytes = parse_size(given["memory"]) if "memory" in given else 0
        processes = int(given.get("processes", "1"))
        uses.append(Use(name, float(given.get("cpus", "0")), memory_bytes, tuple(gpus), processes))
    until = float(given["until"]) if "until" in given else None
    array = int(given["array"]) if "array" in given else None
    return Running(int(words[1]), given.get("user", "ann"), tuple(uses), until, array)


def _job(words: list[str]) -> Pending:
    given = _pairs(words)
    request = next((word for word in words if "[" in word), "[]")
    needs = tuple(
        Need(
            count=group.count,
            cpus=float(given["cpus"]) if "cpus" in given else None,
            memory_bytes=parse_size(given["memory"]) if "memory" in given else None,
            shm_bytes=parse_size(given["shm"]) if "shm" in given else None,
            gpus=tuple((count, None if name == "any" else name) for count, name in group.items),
            image=given.get("image", "x" if "image" in words else ""),
            nodes=tuple(filter(None, given.get("nodes", "").split("+"))),
            require=tuple(map(_requirement, filter(None, given.get("require", "").split("+")))),
        )
        for group in parse_request(request).groups
    )
    parent, _, at_once = given.get("array", "").partition("/")
    return Pending(
        job_id=int(words[1]),
        user=given.get("user", "ann"),
        priority=int(given.get("priority", "50")),
        arrived=float(words[1]),
        needs=needs,
        groups=_set(given.get("groups", "")),
        max_duration_s=parse_duration(given["max"]) if "max" in given else None,
        array=(int(parent), int(at_once) if at_once else None) if parent else None,
        cluster=given.get("cluster", ""),
    )


def _limits(words: list[str]) -> JobLimits:
    return JobLimits(**{name: int(value) for name, value in _pairs(words).items()})


def _requirement(text: str) -> Requirement:
    operator = next(each for each in (">=", "<=", ">", "<", "=") if each in text)
    attribute, value = text.split(operator)
    return Requirement(attribute, operator, value)


def _set(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split("+")))


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(filter(None, text.split("+")))


def _pairs(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)
