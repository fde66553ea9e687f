"""What the scheduler is told of jobs and machines."""

import pytest

from jobd.engine.demands import needs_of, node_view, pending_of, running_of, weight_of
from jobd.imagerules import ImageRules
from jobd.scheduling.model import Gpu, Need, Use
from tests.jobd.engine.worlds import NOW_S, placed, started, waiting

GIB = 1 << 30
GROUPS = """\
max_duration: 60s
grace: 10s
groups:
  - {name: w, count: 2, image: busybox, command: x, resources: {cpu: 2, memory: 1GiB, gpu: {gtx: 1}}, nodes: [n0, n1]}
  - {name: s, image: busybox, command: y, require: {cpuCount: 4}}
"""
NOBODY: frozenset[str] = frozenset()


def test_every_group_is_a_need_with_all_that_it_names():
    workers, server = needs_of(waiting(1, GROUPS).spec)
    assert workers == Need(2, 2.0, GIB, ((1, "gtx"),), image="busybox", nodes=("n0", "n1"))
    assert (server.count, server.cpus, server.memory_bytes, server.gpus) == (1, None, None, ())
    assert [each.attribute for each in server.require] == ["cpuCount"]


def test_a_job_that_waits_comes_with_its_owners_rights_and_its_time():
    job = waiting(7, GROUPS, at_s=5.0)
    pending = pending_of(job, frozenset({"lab"}))
    assert (pending.job_id, pending.user, pending.arrived, pending.priority) == (7, "ann", 5.0, 50)
    assert (pending.groups, pending.needs) == (frozenset({"lab"}), needs_of(job.spec))
    assert pending.max_duration_s == 70.0  # its grace is time that nobody else has


def test_a_job_without_a_limit_may_run_for_ever():
    job = waiting(1)
    assert pending_of(job, NOBODY).max_duration_s is None
    assert running_of(placed(job, "n0")).ends_at_s is None


@pytest.mark.parametrize(("at_once", "told"), [(2, (3, 2)), (None, None)])
def test_a_task_tells_its_array_only_where_that_limits_it(at_once, told):
    task = waiting(4, array_id=3, array_index=0)
    assert pending_of(task, NOBODY, at_once).array == told


def test_what_processes_have_of_a_node_is_added_up():
    job = placed(waiting(1, GROUPS), "n0", "n1", "n0", gpus={0: ("a",), 1: ("b",)})
    assert running_of(job).uses == (Use("n0", 2.0, GIB, ("a",), 2), Use("n1", 2.0, GIB, ("b",), 1))


def test_a_job_ends_at_the_latest_when_its_limit_and_its_grace_are_over():
    job = placed(waiting(1, "command: x\nmax_duration: 60s\ngrace: 10s\n"), "n0", at_s=NOW_S + 100)
    assert running_of(job).ends_at_s == NOW_S + 170
    assert running_of(started(job, at_s=NOW_S + 130)).ends_at_s == NOW_S + 200


def test_a_job_counts_for_its_gpus_and_a_little_for_each_process():
    one, two = weight_of(waiting(1).spec), weight_of(waiting(1, "command: x\nresources: '2:[]'\n").spec)
    assert 0 < one < two < 1
    assert weight_of(waiting(1, "command: x\nresources: '[3:gtx]'\n").spec) == pytest.approx(3 + one)


def test_a_machine_offers_what_it_told():
    attrs = {"offerCpus": 8, "offerMemory": GIB, "maxProcesses": 5, "swarm": "s"}
    gpus = [{"uuid": "a", "model": "GTX"}, {"uuid": "b", "model": "RTX"}]
    view = node_view("cm0", "n0", attrs, ["docker"], gpus, online=True, groups=frozenset({"lab"}))
    assert (view.node_id, view.name, view.online, view.runtimes) == ("cm0", "n0", True, {"docker"})
    assert (view.cpus, view.memory_bytes, view.max_processes, view.swarm) == (8.0, GIB, 5, "s")
    assert (view.gpus, view.groups) == ((Gpu("a", "GTX"), Gpu("b", "RTX")), {"lab"})


def test_a_gpu_is_reserved_by_its_own_groups():
    gpus = [{"uuid": "a", "model": "GTX"}, {"uuid": "b", "model": "GTX"}]
    view = node_view("cm0", "n0", {}, [], gpus, online=True, gpu_groups={"b": frozenset({"lab"})})
    assert [gpu.groups for gpu in view.gpus] == [frozenset(), {"lab"}]


def test_a_machine_that_told_nothing_offers_nothing():
    view = node_view("cm0", "n0", {}, [], [], online=False)
    assert (view.cpus, view.memory_bytes, view.max_processes, view.gpus) == (0.0, 0, 0, ())


def test_what_the_owner_of_a_machine_gives_to_one_process_is_known_and_what_a_job_needs_of_it():
    view = node_view("cm0", "n0", {"mostCpus": 2, "mostMemory": GIB, "mostShm": GIB // 2}, [], [], online=True)
    assert (view.most_cpus, view.most_memory_bytes, view.most_shm_bytes) == (2.0, GIB, GIB // 2)
    (need,) = needs_of(waiting(1, "command: x\nimage: y\nshm: 1GiB\n").spec)
    assert need.shm_bytes == GIB


def test_what_the_owner_of_a_machine_forbids_is_not_offered():
    attrs = {"allowedImages": "python team/*", "allowsSandbox": False}
    view = node_view("cm0", "n0", attrs, ["docker", "sandbox"], [], online=True)
    assert (view.runtimes, view.images) == ({"docker"}, ImageRules(images=("python", "team/*")))
