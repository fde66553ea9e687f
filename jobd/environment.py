"""The environment of a process: what it is told about its job, its fellows and its place among them.

Every process of a job sees all of it, its fellows' host names too; only the indices, the result file and the GPUs
differ. The names are those that people know from Snakepit, from torch and from NVIDIA's container tools; what only
this product has is called `PFS_*`.

For torch the processes of all groups that are no service are one job, in their order, so that `torchrun train.py`
needs no arguments in any of them. A service has no place in that; what it is told by `PET_*` is a job of its own.

`PADDLE_*` belongs to a library that reads it wherever it finds it; so it is set only where PaddleCloud's fields asked
for the job. There the trainers are the first group and the parameter servers the second. All generations of it are told
in their own words. What they call an IP is a host name, the same wherever it stands: it is known before anything runs,
and stays when a process comes back elsewhere. What is not there: `MASTER_IP` and `ETCD_IP`, where nothing would listen,
and `PADDLE_INIT_NICS`, since what network interfaces are called shows only when a process runs; a spec may set them.

A spec may set any of them to its liking (`MASTER_PORT`, `HOME`, …) but those of `_fixed`, which it is refused for.
Two are lists, and stand beside what the spec says of them, or else beside what the image says, which only the node
knows (`extended`): in `PYTHONPATH` PaddleCloud's package comes first, in `LD_LIBRARY_PATH` its folders of the GPU's
driver and of CUDA come last.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobd.imagelists import Side
from jobd.spec.model import Paddle
from pfs.path import to_absolute

# below the ports that Linux gives to outgoing connections; jobs without a network of their own share the machine's
_PORT_FIRST = 20_000
_PORT_COUNT = 10_000
_LABEL_MAX = 40
# where PaddlePaddle's parameter servers listen
_PADDLE_PORT = "7164"
# the first is that of PaddleCloud's server, the second that of its later controller
_LIBRARIES = "/usr/local/nvidia/lib64:/usr/local/cuda/lib64"


@dataclass(frozen=True, slots=True)
class GroupHosts:
    """A group of processes: the host name of each, and whether they only serve the others."""

    name: str
    hosts: tuple[str, ...]
    service: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the environment of one process follows from.

    Attributes:
        user_groups: the groups of people that the owner is in.
        groups: all groups of processes of the job, in order.
        group_index, process_index: this process: its group, and its place there.
        env: the variables of the spec, for this process.
        gpu_uuids: the GPUs that it was given.
        end_time_s: when its time is over, in seconds since the epoch; None without a limit.
        array_id, array_index: for a task of an array: the array's number, and which task of it this is.
        paddle: what PaddleCloud's fields said; None for a job that came in without them.
        trainers: which of its trainers there are when the process starts, by their places; None for all.
        home: the process's home directory; "" for that of its owner.
    """

    datacenter: str
    user: str
    job_id: int
    job_name: str
    attempt: int
    groups: tuple[GroupHosts, ...]
    group_index: int
    process_index: int
    user_groups: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    gpu_uuids: tuple[str, ...] = ()
    end_time_s: int | None = None
    array_id: int | None = None
    array_index: int | None = None
    paddle: Paddle | None = None
    trainers: tuple[int, ...] | None = None
    home: str = ""

    @property
    def group(self) -> GroupHosts:
        """The group of this process."""
        return self.groups[self.group_index]

    @property
    def worker_index(self) -> int:
        """The place of this process among all of the job."""
        return sum(len(group.hosts) for group in self.groups[: self.group_index]) + self.process_index


def host_name(job_name: str, job_id: int, worker_index: int) -> str:
    """Return what a process calls its machine: at most 63 letters, digits and dashes."""
    label = re.sub(r"[^a-z0-9]+", "-", job_name.lower())[:_LABEL_MAX].strip("-")
    return f"{label or 'job'}-{job_id}-{worker_index}"


def environment(facts: Facts) -> dict[str, str]:
    """Return the whole environment that the server gives to a process."""
    return {
        **_snakepit(facts),
        **_people(facts),
        **_torch(facts),
        **_paddle(facts),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **facts.env,
        **{name: side.beside(own, facts.env.get(name, "")) for name, (side, own) in _lists(facts).items()},
        **_fixed(facts),
    }


def extended(facts: Facts) -> dict[str, Side]:
    """Return the variables that are lists, and where they stand beside what the image says, not in its place."""
    return {name: side for name, (side, _) in _lists(facts).items() if name not in facts.env}


def hostfile(facts: Facts) -> str:
    """Return the content of `PFS_HOSTFILE`: the host of every process, one in a line, by worker index."""
    return "".join(f"{host}\n" for group in facts.groups for host in group.hosts)


def job_dir(facts: Facts) -> str:
    """Return the directory of the job's data as its processes see it."""
    return to_absolute(f"jobs/{facts.job_id}", facts.datacenter)


def work_dir(facts: Facts) -> str:
    """Return the directory that the processes start in: the job's own `src`, or PaddleCloud's package in its place."""
    if facts.paddle is None or facts.paddle.package is None:
        return f"{job_dir(facts)}/src"
    package = facts.paddle.package
    return package if package.startswith("/") else to_absolute(f"home/{facts.user}/{package}", facts.datacenter)


def result_name(attempt: int, group_index: int, process_index: int) -> str:
    """Return the name, in the job's `tmp`, of the file that a process may leave its result in."""
    return f"result.{attempt}.{group_index}.{process_index}"


def _snakepit(facts: Facts) -> dict[str, str]:
    own, work = job_dir(facts), work_dir(facts)
    values = {
        "JOB_NUMBER": str(facts.job_id),
        "DATA_ROOT": to_absolute("", facts.datacenter),
        "SHARED_DIR": to_absolute("shared", facts.datacenter),
        "USER_DIR": to_absolute(f"home/{facts.user}", facts.datacenter),
        "JOB_DIR": own,
        "SRC_DIR": work,
        "WORK_DIR": work,
        "RESULT_FILE": f"{own}/tmp/{result_name(facts.attempt, facts.group_index, facts.process_index)}",
        "NUM_GROUPS": str(len(facts.groups)),
        "GROUP_INDEX": str(facts.group_index),
        "PROCESS_INDEX": str(facts.process_index),
        "WORKER_INDEX": str(facts.worker_index),
    }
    for name in facts.user_groups:
        variable = re.sub(r"[^A-Z0-9]", "_", name.upper())
        values[f"{variable}_GROUP_DIR"] = to_absolute(f"groups/{name}", facts.datacenter)
    for index, group in enumerate(facts.groups):
        values[f"NUM_PROCESSES_GROUP{index}"] = str(len(group.hosts))
        for process, host in enumerate(group.hosts):
            values[f"HOST_GROUP{index}_PROCESS{process}"] = host
    return values


def _people(facts: Facts) -> dict[str, str]:
    home = facts.home or to_absolute(f"home/{facts.user}", facts.datacenter)
    # images know nothing of the owner's uid, and libraries ask for the user's name all the same
    return {"HOME": home, "USER": facts.user, "LOGNAME": facts.user}


def _torch(facts: Facts) -> dict[str, str]:
    ranked = [
        (index, process)
        for index, group in enumerate(facts.groups)
        for process in range(len(group.hosts))
        if not group.service
    ]
    own = (facts.group_index, facts.process_index)
    world = [own] if facts.group.service else ranked
    master, first = (facts.groups[index].hosts[process] for index, process in (ranked[0], world[0]))
    port = str(_PORT_FIRST + facts.job_id % _PORT_COUNT)
    return {
        "MASTER_ADDR": master,
        "MASTER_PORT": port,
        "PET_MASTER_ADDR": first,
        "PET_MASTER_PORT": port,
        "PET_NNODES": str(len(world)),
        "PET_NODE_RANK": str(world.index(own)),
        "PET_NPROC_PER_NODE": str(max(1, len(facts.gpu_uuids))),
    }


def _paddle(facts: Facts) -> dict[str, str]:
    if facts.paddle is None:
        return {}
    trainers, pservers = (group.hosts for group in facts.groups)
    if facts.trainers is not None:
        trainers = tuple(trainers[place] for place in facts.trainers)
    own, role = facts.group.hosts[facts.process_index], "PSERVER" if facts.group.service else "TRAINER"
    fields = facts.paddle.fields
    gpus = int(fields["gpu"])
    cpus = max(1, int(float(fields["cpu"])))
    values = {
        "PADDLE_JOB_NAME": facts.job_name,
        "PADDLE_CLOUD_CURRENT_DATACENTER": facts.datacenter,
        "PADDLE_CLOUD_USERNAME": facts.user,
        "NAMESPACE": re.sub(r"[@._]", "-", facts.user),
        "TRAINERS": str(len(trainers)),
        "PSERVERS": str(len(pservers)),
        "TOPOLOGY": fields["topology"],
        "ENTRY": fields["entry"],
        "TRAINER_PACKAGE": work_dir(facts),
        "PADDLE_INIT_PORT": _PADDLE_PORT,
        "PADDLE_INIT_PORTS_NUM": "1",
        "PADDLE_INIT_PORTS_NUM_FOR_SPARSE": "1",
        "PADDLE_INIT_TRAINER_COUNT": str(gpus or cpus),
        "PADDLE_INIT_NUM_GRADIENT_SERVERS": str(len(trainers)),
        "PADDLE_INIT_NUM_PASSES": fields["passes"],
        "PADDLE_INIT_USE_GPU": "1" if gpus else "0",
        "PADDLE_INIT_PSERVERS": ",".join(pservers),
        "PADDLE_PSERVER_IPS": ",".join(pservers),
        "PADDLE_TRAINER_IPS": ",".join(trainers),
        "PADDLE_TRAINERS": str(len(trainers)),
        "PADDLE_PSERVERS": str(len(pservers)),
        "PADDLE_TRAINING_ROLE": role,
        "TRAINING_ROLE": role,
        "POD_IP": own,
        "PADDLE_PORT": _PADDLE_PORT,
        "PADDLE_TRAINERS_NUM": str(len(trainers)),
        "PADDLE_TRAINER_ENDPOINTS": _endpoints(trainers),
        "PADDLE_PSERVERS_IP_PORT_LIST": _endpoints(pservers),
        "PADDLE_CURRENT_ENDPOINT": _endpoints((own,)),
    }
    if not facts.group.service:
        values |= {name: str(facts.process_index) for name in ("PADDLE_TRAINER_ID", "PADDLE_INIT_TRAINER_ID")}
    return values


def _lists(facts: Facts) -> dict[str, tuple[Side, str]]:
    if facts.paddle is None:
        return {}
    return {"PYTHONPATH": (Side.BEFORE, work_dir(facts)), "LD_LIBRARY_PATH": (Side.BEHIND, _LIBRARIES)}


def _endpoints(hosts: tuple[str, ...]) -> str:
    return ",".join(f"{host}:{_PADDLE_PORT}" for host in hosts)


def _fixed(facts: Facts) -> dict[str, str]:
    """Return what only the server knows; `jobd.spec.values.env` refuses a spec that sets it."""
    values = {
        "NVIDIA_VISIBLE_DEVICES": ",".join(facts.gpu_uuids) or "void",
        "PFS_JOB_ID": str(facts.job_id),
        "PFS_JOB_NAME": facts.job_name,
        "PFS_ATTEMPT": str(facts.attempt),
        "PFS_USER": facts.user,
        "PFS_DATACENTER": facts.datacenter,
        "PFS_HOSTFILE": f"{job_dir(facts)}/tmp/hostfile",
    }
    optional = {"PFS_END_TIME": facts.end_time_s, "PFS_ARRAY_ID": facts.array_id, "PFS_TASK_ID": facts.array_index}
    values |= {name: str(value) for name, value in optional.items() if value is not None}
    return values
