"""What the owner of a node lets jobs do there, whatever the server asks: a judge over launches.

Pure; the file it comes from is read by `cli.node.policyfile`. A launch is refused for what it asks beyond the policy,
and what it leaves open is closed: without a limit of its own a task gets the most that the policy grants. A container
is never privileged, and sees no path of the machine but its job's volumes and the node's own mounts: a launch has no
words for more, so there is nothing to allow.

An image is judged by its full name, as the engine reads it (`python` is `docker.io/library/python:latest`), and it is
the full name that the engine is then told: a short one can also be the beginning of the id of any image there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jobd.imagename import image_of
from jobd.imagerules import ImageRules
from jobd.node.runtime import Launch

_GIB = 1 << 30
# what a node allows whose owner says nothing of it: an environment and its caches fit, and an endless loop ends
DISK_BYTES = 100 * _GIB


@dataclass(frozen=True, slots=True)
class Policy:
    """What jobs may do on a node; None is no limit.

    Attributes:
        images, registries: see `ImageRules`.
        sandbox: whether jobs without an image run here.
        cpus, memory_bytes, shm_bytes, processes: the most that one task gets.
        disk_bytes: the most that one task writes outside its mounts.
        ulimits: the most that one process gets, by the names of `jobd.node.ulimits`.
        mounts: directories in which the node's own mounts may lie.
    """

    images: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None
    sandbox: bool = True
    cpus: float | None = None
    memory_bytes: int | None = None
    shm_bytes: int | None = None
    processes: int | None = None
    disk_bytes: int | None = DISK_BYTES
    ulimits: Mapping[str, int] = field(default_factory=dict)
    mounts: tuple[str, ...] | None = None

    @property
    def image_rules(self) -> ImageRules:
        """Which images may run."""
        return ImageRules(self.images, self.registries)


def judge(policy: Policy, launch: Launch, node: str) -> str:
    """Say why a task may not run on a node; "" where it may.

    Args:
        node: the name of the node, for the words.
    """
    said = _image_problem(policy, launch.image) or _size_problem(policy, launch)
    return f"the policy of node {node} {said}" if said else ""


def _image_problem(policy: Policy, name: str | None) -> str:
    if name is None:
        return "" if policy.sandbox else "lets no job run without an image; name one"
    rules = policy.image_rules
    if rules.allow(name):
        return ""
    image = image_of(name)
    which = (
        f"does not allow the image {image}" if rules.know(image.registry) else f"allows no image from {image.registry}"
    )
    return f"{which}; allowed: {rules.allowed}"


def _size_problem(policy: Policy, launch: Launch) -> str:
    if policy.cpus is not None and launch.cpus is not None and launch.cpus > policy.cpus:
        return f"gives a process at most {policy.cpus:g} CPUs, and this one asks for {launch.cpus:g}"
    for what, most, asked in (
        ("memory", policy.memory_bytes, launch.memory_bytes),
        ("shared memory", policy.shm_bytes, launch.shm_bytes),
    ):
        if most is not None and asked is not None and asked > most:
            return f"gives a process at most {_gib(most)} of {what}, and this one asks for {_gib(asked)}"
    return ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.6g}GiB"


def capped(policy: Policy, launch: Launch, shm_bytes: int) -> Launch:
    """Return a launch that was allowed, with the limits of the policy where it has none of its own.

    Args:
        shm_bytes: what a container gets that asks for nothing.
    """
    shm = launch.shm_bytes
    if policy.shm_bytes is not None and shm is None:
        shm = min(policy.shm_bytes, shm_bytes)
    judged_by_name = launch.image is not None and policy.image_rules.are_any
    return replace(
        launch,
        image=str(image_of(str(launch.image))) if judged_by_name else launch.image,
        cpus=policy.cpus if launch.cpus is None else launch.cpus,
        memory_bytes=policy.memory_bytes if launch.memory_bytes is None else launch.memory_bytes,
        shm_bytes=shm,
        processes=_least(launch.processes, policy.processes),
        disk_bytes=_least(launch.disk_bytes, policy.disk_bytes),
        ulimits=policy.ulimits,
        # whoever allowed a tag only gets what it means now
        pinned=None if launch.pinned is None or _image_problem(policy, launch.pinned) else launch.pinned,
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
