"""PaddleCloud's own fields, accepted as they are: trainers, and parameter servers as a service.

    job_package | jobPackage    the folder that all processes run in, read-write, never copied
    parallelism cpu gpu memory  the trainers: their number, and what each needs; 1, 1, 0, 1Gi
    pservers pscpu psmemory     the parameter servers; as many as trainers, 1, 1Gi
    entry                       what the trainers run, by `sh -c`
    topology                    a configuration of PaddlePaddle's first API; `paddle train` runs it
    datacenter passes faulttolerant min_instance max_instance

Clients send every field, empty where nothing was said. A number of 0 parameter servers stands for the default.

`faulttolerant` has trainers and parameter servers replaced that fail, as many as there are trainers. With
`min_instance` and `max_instance` there are between so many trainers and so many, as there is room: whoever writes a
range means it, whether failures are tolerated or not. What is left out of the two is `parallelism`. Both 1 is what
clients send where nothing was said, and as little as nothing: a job of four trainers is not to become one of one.
All that PaddleCloud did not have (env, mounts, retry, …) goes with its fields; what says the same as one of them does
not.

A parameter server is `paddle pserver`. An image without that program is of the time after it, in which parameter
servers run the entry as well, and see in `PADDLE_TRAINING_ROLE` what they are.
"""

from dataclasses import replace

from jobd.spec import sources, values
from jobd.spec.entries import Given, Reader
from jobd.spec.groups import PROCESSES_MAX, common_group, refuse_many
from jobd.spec.model import GroupSpec, Paddle
from jobd.spec.text import Node, Scalar
from jobd.spec.values import Report

TRAINER, PSERVER = "trainer", "pserver"

_MEMORY_BYTES = 1 << 30
_PASSES_MAX = 1_000_000
_CAMEL = {"jobPackage": "job_package", "maxInstance": "max_instance", "minInstance": "min_instance"}
_INSTANCES = ("min_instance", "max_instance", "minInstance", "maxInstance")
# what says the same in the words of every other job
_NATIVE = {
    "resources": "parallelism, cpu, gpu and memory",
    "groups": "parallelism and pservers",
    "command": "entry",
    "service": "pservers",
}
_NEEDS = {"cpu", "gpu", "memory"}
_PORTS = (
    '--port="$PADDLE_INIT_PORT" --ports_num="$PADDLE_INIT_PORTS_NUM"'
    ' --ports_num_for_sparse="$PADDLE_INIT_PORTS_NUM_FOR_SPARSE"'
    ' --num_gradient_servers="$PADDLE_INIT_NUM_GRADIENT_SERVERS"'
)
_TRAIN = (
    f'exec paddle train --local=0 --config="$TOPOLOGY" {_PORTS} --pservers="$PADDLE_INIT_PSERVERS"'
    ' --trainer_id="$PADDLE_INIT_TRAINER_ID" --trainer_count="$PADDLE_INIT_TRAINER_COUNT"'
    ' --use_gpu="$PADDLE_INIT_USE_GPU" --num_passes="$PADDLE_INIT_NUM_PASSES"'
)
# with nothing said it would look for the interfaces of its makers' own machines
_SERVE = f'exec paddle pserver --use_gpu=0 --nics="$PADDLE_INIT_NICS" {_PORTS}'
_SERVE_OR_ENTER = f'command -v paddle >/dev/null && {_SERVE}; exec sh -c "$0"'


def _optional_text(node: Node, report: Report) -> str | None:
    if isinstance(node, Scalar) and not node.plain and not node.text.strip():
        return ""
    value = values.text(node, report)
    # it becomes a variable as well
    return value if value is not None and values.fits(node, f"TOPOLOGY={value}", report) else None


PADDLE_FIELDS: dict[str, Reader] = {
    "job_package": sources.folder,
    "parallelism": values.whole_number(1, PROCESSES_MAX),
    "cpu": values.cpus,
    "gpu": values.whole_number(0, 9999),
    "memory": values.size,
    "pservers": values.whole_number(0, PROCESSES_MAX),
    "pscpu": values.cpus,
    "psmemory": values.size,
    "entry": _optional_text,
    "topology": _optional_text,
    "datacenter": _optional_text,
    "passes": values.whole_number(1, _PASSES_MAX),
    "faulttolerant": values.truth,
    "min_instance": values.whole_number(0, PROCESSES_MAX),
    "max_instance": values.whole_number(0, PROCESSES_MAX),
}
PADDLE_FIELDS |= {camel: PADDLE_FIELDS[snake] for camel, snake in _CAMEL.items()}


def fields_in(given: Given) -> list[str]:
    """Return PaddleCloud's fields in a spec, in the order of the text."""
    return given.present(PADDLE_FIELDS)


def refuse_unfit(given: Given, report: Report) -> None:
    """Report what is wrong between the fields, and between them and other keys."""
    fields = fields_in(given)
    for native in given.present(_NATIVE):
        others = " and ".join(", ".join(fields).rsplit(", ", 1))
        groups = ", and say it in the resources of groups" if _NEEDS.issuperset(fields) else ""
        cure = f"write {_NATIVE[native]} instead, or remove {others}{groups}"
        report.at(given.keys[native], f"{native} does not go with PaddleCloud's fields; {cure}")
    for package in given.present(("job_package", "jobPackage")):
        given.refuse_both(package, "src", "which files the job has", report)
        given.refuse_both(package, "git", "which files the job has", report)
    for camel, snake in _CAMEL.items():
        given.refuse_both(camel, snake, "the same", report)
    if given.get("entry", "") == "" and given.get("topology", "") == "" and "command" not in given:
        report.at(given.node, "there is no topology and no entry; write entry: and what the trainers run")
    trainers, pservers = _counts(given)
    if counts := given.present(("parallelism", "pservers", *_INSTANCES)):
        refuse_many(given.keys[counts[-1]], trainers + pservers, report)
    _refuse_instances(given, report)
    _refuse_datacenter(given, report)


def _refuse_instances(given: Given, report: Report) -> None:
    low, high = _field(given, "min_instance"), _field(given, "max_instance")
    least, most = given.get(low or "") or None, given.get(high or "") or None
    if low is not None and least is not None and most is not None and least > most:
        report.at(given.keys[low], f"{low} is more than {high}; exchange them")
    elif high is not None and most is not None and _range(given) != (None, None) and most < _parallelism(given):
        report.at(given.keys[high], f"{high} is less than parallelism; write the most trainers that there may be")


def _refuse_datacenter(given: Given, report: Report) -> None:
    package = _field(given, "job_package")
    path, datacenter = given.get(package or "") or "", given.get("datacenter")
    if datacenter and path.startswith("/") and path.split("/")[2] != datacenter:
        report.at(given.keys["datacenter"], f"the package is in {path.split('/')[2]}; write that, or another package")


def _field(given: Given, snake: str) -> str | None:
    """Return the form in which a field is given."""
    forms = given.present((snake, *(camel for camel, same in _CAMEL.items() if same == snake)))
    return forms[0] if forms else None


def _parallelism(given: Given) -> int:
    return given.get("parallelism") or 1


def _range(given: Given) -> tuple[int | None, int | None]:
    """Return how many trainers there are at least and at most, as far as that was said."""
    low, high = (given.get(_field(given, name) or "") or None for name in ("min_instance", "max_instance"))
    return (None, None) if high == 1 and low in (None, 1) else (low, high)


def _trainers(given: Given) -> tuple[int, int]:
    """Return how many trainers a job needs, and how many it may have."""
    low, high = _range(given)
    most = high or max(_parallelism(given), low or 1)
    return low or min(_parallelism(given), most), most


def _counts(given: Given) -> tuple[int, int]:
    least, most = _trainers(given)
    return most, given.get("pservers") or max(least, _parallelism(given))


def assemble(given: Given) -> tuple[tuple[GroupSpec, ...], Paddle]:
    """Return the groups of a spec in which nothing is wrong, and what is kept of its fields."""
    (least, most), (trainers, pservers) = _trainers(given), _counts(given)
    entry = given.get("entry", "")
    gpus = given.get("gpu", 0)
    common = replace(common_group(given), name=TRAINER, count=trainers, argv=("sh", "-c", entry or _TRAIN))
    groups = (
        replace(
            common,
            cpus=given.get("cpu", 1.0),
            memory_bytes=given.get("memory", _MEMORY_BYTES),
            gpus=((gpus, None),) if gpus else (),
        ),
        replace(
            common,
            name=PSERVER,
            count=pservers,
            argv=("sh", "-c", _SERVE_OR_ENTER, entry) if entry else ("sh", "-c", _SERVE),
            cpus=given.get("pscpu", 1.0),
            memory_bytes=given.get("psmemory", _MEMORY_BYTES),
            service=True,
        ),
    )
    package = given.get(_field(given, "job_package") or "")
    return groups, Paddle(package, _kept(given), least if least < most else None)


def _kept(given: Given) -> dict[str, str]:
    """Return the fields as text, with their defaults: for variables, and for whoever asks what was said."""
    fields = {
        "entry": given.get("entry", ""),
        "topology": given.get("topology", ""),
        "datacenter": given.get("datacenter", ""),
        "cpu": f"{given.get('cpu', 1.0):g}",
        "gpu": str(given.get("gpu", 0)),
        "passes": str(given.get("passes", 1)),
        "faulttolerant": str(given.get("faulttolerant", False)).lower(),
    }
    instances = {snake: _field(given, snake) for snake in ("min_instance", "max_instance")}
    return fields | {snake: str(given.values[form]) for snake, form in instances.items() if form is not None}
