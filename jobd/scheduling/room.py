"""What is left on one node, and what of it a process would take.

All sums are whole numbers (CPUs in billionths), so that the order in which jobs came and went leaves no trace.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt

from jobd.scheduling.model import ANY_IMAGE, CPUS_OVERCOMMIT, DOCKER, SANDBOX, Gpu, Need, NodeView, Use
from jobd.spec.model import Requirement

NANO = 10**9

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}

Fullness = tuple[int, int, int, int, int, str, str]  # smaller is fuller; ends with the name and the id of the node


@dataclass(frozen=True, slots=True)
class Ask:
    """What one process needs, resolved for its owner.

    Attributes:
        nano_cpus, memory_bytes: 0 where nothing is reserved.
        shm_bytes: what its shared memory has to be; 0 where that does not matter.
        models: how many GPUs of which models; each model once.
        any_gpus: how many more GPUs of whatever model.
        groups: those of the owner.
        owner: who they are, where some node is their own; else "", so that equal requests of all users are equal.
        cluster: the only one in which it may run; "" for all.
        image: where some node takes only some; else "", so that equal requests for all of them are equal.
    """

    nano_cpus: int
    memory_bytes: int
    models: tuple[tuple[str, int], ...]
    any_gpus: int
    runtime: str
    nodes: frozenset[str]
    require: tuple[Requirement, ...]
    groups: frozenset[str]
    owner: str = ""
    cluster: str = ""
    image: str = ""
    shm_bytes: int = 0

    @property
    def gpus(self) -> int:
        """How many GPUs in all."""
        return self.any_gpus + sum(count for _, count in self.models)

    @property
    def reserves(self) -> bool:
        """Whether a process of it leaves less of the node to others than a free place."""
        return bool(self.nano_cpus or self.memory_bytes or self.models or self.any_gpus)


def ask_of(need: Need, groups: frozenset[str], aliases: Mapping[str, str], owner: str = "", cluster: str = "") -> Ask:
    """Return what one process of `need` asks of a node, for an owner in `groups`."""
    models: Counter[str] = Counter()
    any_gpus = 0
    for count, model in need.gpus:
        if model is None:
            any_gpus += count
        else:
            models[aliases.get(model, model)] += count
    return Ask(
        nano_cpus=to_nano(need.cpus or 0.0),
        memory_bytes=need.memory_bytes or 0,
        models=tuple(sorted(models.items())),
        any_gpus=any_gpus,
        runtime=DOCKER if need.image else SANDBOX,
        nodes=frozenset(need.nodes),
        require=need.require,
        groups=groups,
        owner=owner,
        cluster=cluster,
        image="" if need.image == ANY_IMAGE else need.image,
        shm_bytes=need.shm_bytes or 0,
    )


def to_nano(cpus: float) -> int:
    """Return CPUs in billionths, the unit in which they are counted."""
    return round(cpus * NANO)


class Room:
    """What is left on a node.

    Attributes:
        free: the GPUs that nobody has, those that are to be taken first in front.
    """

    __slots__ = ("_models", "_plain", "free", "memory_bytes", "nano_cpus", "slots", "view")

    def __init__(self, view: NodeView, free: tuple[Gpu, ...], nano_cpus: int, memory_bytes: int, slots: int) -> None:
        self.view = view
        self.free = free
        self.nano_cpus = nano_cpus
        self.memory_bytes = memory_bytes
        self.slots = slots
        self._models: dict[str, int] | None = None
        self._plain = True

    def models(self, groups: frozenset[str]) -> Mapping[str, int]:
        """Return how many GPUs of each model members of `groups` could have."""
        if self._models is None:
            self._models = {}
            for gpu in self.free:
                self._models[gpu.model] = self._models.get(gpu.model, 0) + 1
            self._plain = not any(gpu.groups for gpu in self.free)
        if self._plain:
            return self._models
        return Counter(gpu.model for gpu in self.free if not gpu.groups or gpu.groups & groups)

    def copies(self, ask: Ask) -> int:
        """Return how many processes that ask this fit at once."""
        return _copies(ask, self.slots, self.nano_cpus, self.memory_bytes, self.models(ask.groups))

    def sizes(self, ask: Ask) -> "Sizes":
        """Return how much of what a process asks is left, to add to."""
        return Sizes(ask, self)

    def fullness(self, ask: Ask) -> Fullness:
        """Return what the node is compared with others by, when a process that asks this has to go somewhere.

        A process that reserves nothing makes no hole smaller, but shares the machine's processors with what is
        there: it goes where the fewest processes are. Who has nodes of their own leaves those of everybody to others.
        """
        view = self.view
        common = not view.owner
        if ask.models or ask.any_gpus:
            return (common, len(self.free), 0, 0, 0, view.name, view.node_id)
        if not ask.reserves:
            return (common, bool(view.gpus), view.max_processes - self.slots, 0, 0, view.name, view.node_id)
        cpus, memory = self.nano_cpus if ask.nano_cpus else 0, self.memory_bytes if ask.memory_bytes else 0
        return (common, bool(view.gpus), len(self.free), cpus, memory, view.name, view.node_id)

    def copy(self) -> "Room":
        """Return the same room, to take from."""
        return Room(self.view, self.free, self.nano_cpus, self.memory_bytes, self.slots)

    def give(self, use: Use) -> None:
        """Put back what a job had."""
        self.nano_cpus += to_nano(use.cpus)
        self.memory_bytes += use.memory_bytes
        self.slots += use.processes
        if use.gpus:
            self.free += tuple(gpu for gpu in self.view.gpus if gpu.uuid in use.gpus)
            self._models = None

    def take(self, ask: Ask, copies: int) -> list[tuple[str, ...]]:
        """Take what so many processes ask, which has to be there; return the GPUs of each."""
        self.nano_cpus -= copies * ask.nano_cpus
        self.memory_bytes -= copies * ask.memory_bytes
        self.slots -= copies
        taken: list[list[str]] = [[] for _ in range(copies)]
        left = list(self.free)
        for model, count in ask.models:
            self._deal([gpu for gpu in left if gpu.model == model], count, ask, left, taken)
        if ask.any_gpus:
            models = Counter(gpu.model for gpu in left)
            named = {model for model, _ in ask.models}
            rarest = sorted(left, key=lambda gpu: (not gpu.groups, gpu.model in named, models[gpu.model], gpu.model))
            self._deal(rarest, ask.any_gpus, ask, left, taken)
        self.free = tuple(left)
        self._models = None
        return [tuple(gpus) for gpus in taken]

    @staticmethod
    def _deal(fitting: list[Gpu], each: int, ask: Ask, left: list[Gpu], taken: list[list[str]]) -> None:
        allowed = [gpu for gpu in fitting if not gpu.groups or gpu.groups & ask.groups]
        for number, gpu in enumerate(allowed[: each * len(taken)]):
            taken[number // each].append(gpu.uuid)
            left.remove(gpu)


class Sizes:
    """What is left on a node of what one process asks, in numbers: a room that only grows."""

    __slots__ = ("_ask", "_memory_bytes", "_models", "_nano_cpus", "_slots")

    def __init__(self, ask: Ask, room: Room) -> None:
        self._ask = ask
        self._slots = room.slots
        self._nano_cpus = room.nano_cpus
        self._memory_bytes = room.memory_bytes
        self._models = dict(room.models(ask.groups))

    def give(self, use: Use, gpus: Mapping[str, Gpu]) -> None:
        """Add what a job had.

        Args:
            gpus: those of the node, by UUID.
        """
        if use.cpus:
            self._nano_cpus += to_nano(use.cpus)
        self._memory_bytes += use.memory_bytes
        self._slots += use.processes
        for uuid in use.gpus:
            gpu = gpus.get(uuid)
            if gpu is not None and (not gpu.groups or gpu.groups & self._ask.groups):
                self._models[gpu.model] = self._models.get(gpu.model, 0) + 1

    def copies(self) -> int:
        """Return how many processes fit at once."""
        return _copies(self._ask, self._slots, self._nano_cpus, self._memory_bytes, self._models)


def _copies(ask: Ask, most: int, nano_cpus: int, memory_bytes: int, models: Mapping[str, int]) -> int:
    if ask.nano_cpus:
        most = min(most, nano_cpus // ask.nano_cpus)
    if ask.memory_bytes:
        most = min(most, memory_bytes // ask.memory_bytes)
    for model, count in ask.models:
        most = min(most, models.get(model, 0) // count)
    if ask.any_gpus:
        most = min(most, sum(models.values()) // ask.gpus)
    return max(most, 0)


def make_room(view: NodeView, uses: Iterable[Use] = (), first: frozenset[str] = frozenset()) -> Room:
    """Return what `uses` leave of a node.

    Args:
        first: GPUs that are to be taken before others.
    """
    nano_cpus, memory_bytes, slots = to_nano(view.cpus) * CPUS_OVERCOMMIT, view.memory_bytes, view.max_processes
    used: set[str] = set()
    for use in uses:
        nano_cpus -= to_nano(use.cpus)
        memory_bytes -= use.memory_bytes
        slots -= use.processes
        used.update(use.gpus)
    free = tuple(gpu for gpu in view.gpus if gpu.uuid not in used) if used else view.gpus
    if first:
        free = tuple(sorted(free, key=lambda gpu: gpu.uuid not in first))
    return Room(view, free, nano_cpus, memory_bytes, slots)


def with_reserved_first(view: NodeView) -> NodeView:
    """Return a node whose GPUs for few come first: those who may take these, so that the rest is left to everybody."""
    if not any(gpu.groups for gpu in view.gpus):
        return view
    return replace(view, gpus=tuple(sorted(view.gpus, key=lambda gpu: not gpu.groups)))


def suits(view: NodeView, ask: Ask) -> bool:
    """Tell whether a node could run such a process if it were on-line and idle."""
    return permits(view, ask) and is_large_enough(view, ask)


def permits(view: NodeView, ask: Ask) -> bool:
    """Tell whether nothing but its size keeps a node from running such a process."""
    return (
        is_for(view, ask)
        and ask.runtime in view.runtimes
        and ask.runtime not in view.troubles
        and allows(view, ask)
        and (not ask.nodes or view.name in ask.nodes)
        and may_use(view, ask.groups)
        and all(meets(view, requirement) for requirement in ask.require)
    )


def is_for(view: NodeView, ask: Ask) -> bool:
    """Tell whether a node is one of those that there are for such a process: in its cluster, and nobody else's own."""
    return view.owner in ("", ask.owner) and (not ask.cluster or view.cluster == ask.cluster)


def allows(view: NodeView, ask: Ask) -> bool:
    """Tell whether the owner of a node lets the image of such a process run there."""
    return not ask.image or view.images.allow(ask.image)


def may_use(view: NodeView, groups: frozenset[str]) -> bool:
    """Tell whether members of `groups` may use a node."""
    return not view.groups or bool(view.groups & groups)


def is_large_enough(view: NodeView, ask: Ask) -> bool:
    """Tell whether an idle node has what one process asks; a process gets no more CPUs than there are."""
    fits = ask.nano_cpus <= to_nano(view.cpus_each) and ask.memory_bytes <= view.memory_bytes_each
    if view.most_shm_bytes is not None and ask.shm_bytes > view.most_shm_bytes:
        return False
    return fits and make_room(view).copies(ask) > 0


def meets(view: NodeView, requirement: Requirement) -> bool:
    """Tell whether an attribute of a node is what it must be.

    All operators but = compare numbers; of `8156872 kB` that is the number in front.
    """
    told = view.attrs.get(requirement.attribute)
    if told is None:
        return False
    text = str(told).lower() if isinstance(told, bool) else str(told)
    wanted = _number(requirement.value)
    if requirement.operator == "=":
        return text == requirement.value or (wanted is not None and _number(text) == wanted)
    has = _number(text.partition(" ")[0])
    if has is None or wanted is None:
        return False
    return _COMPARE[requirement.operator](has, wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
