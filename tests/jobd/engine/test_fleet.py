"""The machines of a datacenter: who is heard of, who is connected, and what they are called."""

import pytest

from jobd.engine.assign import Machine
from jobd.engine.fleet import OFFLINE_AFTER_S, SUSPECT_AFTER_S, UNKNOWN_AFTER_S
from jobd.nodestate import Closed, NodeState
from jobd.store.nodes import Policy
from tests.jobd.conftest import Link
from tests.jobd.engine.worlds import Clock, fleet_of, machine


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("silence_s", "state"),
    [
        (SUSPECT_AFTER_S - 1, NodeState.ONLINE),
        (SUSPECT_AFTER_S, NodeState.SUSPECT),
        (UNKNOWN_AFTER_S - 1, NodeState.SUSPECT),
        (UNKNOWN_AFTER_S, NodeState.UNKNOWN),
        (OFFLINE_AFTER_S - 1, NodeState.UNKNOWN),
        (OFFLINE_AFTER_S, NodeState.OFFLINE),
    ],
)
def test_a_silent_node_is_suspect_then_unknown_and_after_a_day_offline(clock, silence_s, state):
    fleet = fleet_of(clock, machine())
    clock.now_s += silence_s
    assert fleet.state("cmn0") is state
    assert fleet.view("cmn0").online == (state is NodeState.ONLINE)


def test_a_node_that_says_goodbye_is_offline_until_it_registers_again(clock):
    fleet = fleet_of(clock, machine())
    fleet.leaves("cmn0")
    assert (fleet.state("cmn0"), fleet.view("cmn0").online) == (NodeState.OFFLINE, False)
    fleet.heard("cmn0")  # what it had said before
    assert fleet.state("cmn0") is NodeState.OFFLINE
    fleet.register(machine())
    assert fleet.state("cmn0") is NodeState.ONLINE


def test_a_node_that_is_heard_again_is_online_which_is_told_once(clock):
    fleet = fleet_of(clock, machine())
    clock.now_s += SUSPECT_AFTER_S
    assert [fleet.heard("cmn0"), fleet.heard("cmn0")] == [True, False]
    assert fleet.state("cmn0") is NodeState.ONLINE


def test_a_node_without_a_connection_gets_no_new_work_at_once(clock):
    fleet = fleet_of(clock, machine())
    link = fleet.link("cmn0")
    assert link is not None
    assert fleet.disconnect("cmn0", link)
    assert (fleet.state("cmn0"), fleet.link("cmn0")) == (NodeState.SUSPECT, None)


def test_the_end_of_an_older_connection_ends_nothing(clock):
    fleet = fleet_of(clock, machine())
    older, newer = fleet.link("cmn0"), Link()
    assert older is not None
    fleet.connect("cmn0", newer)
    assert not fleet.disconnect("cmn0", older)
    assert fleet.link("cmn0") is newer


def test_what_is_known_from_before_is_silent_from_now_on(clock):
    fleet = fleet_of(clock)
    fleet.register(machine())
    clock.now_s += UNKNOWN_AFTER_S - 1
    assert fleet.state("cmn0") is NodeState.SUSPECT
    clock.now_s += 1
    assert fleet.state("cmn0") is NodeState.UNKNOWN


def test_of_a_node_that_never_registered_nothing_is_known(clock):
    fleet = fleet_of(clock, machine())
    assert (fleet.name("cmn7"), fleet.name(None), fleet.row("cmn7"), fleet.named("n7")) == ("cmn7", "", None, None)
    assert fleet.state("cmn7") is NodeState.UNKNOWN
    assert fleet.machines(["cmn7"]) == {"cmn7": Machine()}


def test_nodes_are_told_by_name(clock):
    fleet = fleet_of(clock, machine("n2"), machine("n0"), machine("n1"))
    assert [standing.row.name for standing in fleet.standings()] == ["n0", "n1", "n2"]
    found = fleet.named("n2")
    assert found is not None
    assert (found.row.id, found.state, found.since_ns) == ("cmn2", NodeState.ONLINE, clock())


def test_tasks_know_where_their_machines_are_reached(clock):
    fleet = fleet_of(clock, machine(address="10.0.0.7"))
    known = fleet.machines(["cmn0"])["cmn0"]
    assert (known.runtimes, known.address) == (frozenset({"sandbox"}), "10.0.0.7")


def test_a_swarm_is_managed_by_whom_is_connected(clock):
    worker, manager = machine("n0", swarm="s"), machine("n1", swarm="s", swarmManager=True)
    fleet = fleet_of(clock, worker, manager, machine("n2", swarm="t"))
    link = fleet.link("cmn1")
    assert (fleet.swarm("cmn0"), fleet.swarm("cmn7")) == ("s", "")
    assert fleet.manager("s") is link is not None
    assert fleet.manager("t") is None
    fleet.disconnect("cmn1", link)
    assert fleet.manager("s") is None


def test_a_users_own_node_manages_no_swarm_that_the_datacenter_is_in(clock):
    common, own = machine("n0", swarm="s"), machine("n1", swarm="s", swarmManager=True)
    own.owner = "ann"
    assert fleet_of(clock, common, own).manager("s") is None
    assert fleet_of(clock, own).manager("s") is not None


def test_reservations_go_to_the_scheduler_with_the_node(clock):
    fleet = fleet_of(clock, machine(gpus=2), machine("n1"))
    lab, team = frozenset({"lab"}), frozenset({"team"})
    fleet.policy = Policy(node_groups={"cmn1": lab}, gpu_groups={"n0-1": team})
    views = {view.name: view for view in fleet.views()}
    assert [gpu.groups for gpu in views["n0"].gpus] == [frozenset(), team]
    assert (views["n0"].groups, views["n1"].groups) == (frozenset(), lab)


def test_a_drained_node_takes_no_work_and_is_draining_while_jobs_are_there(clock):
    fleet = fleet_of(clock, machine(), machine("n1"), busy=frozenset({"cmn0"}))
    fleet.closed = {node: Closed("ann", "new disk", 0) for node in ("cmn0", "cmn1")}
    assert [standing.state for standing in fleet.standings()] == [NodeState.DRAINING, NodeState.DRAINED]
    assert [view.is_open for view in fleet.views()] == [False, False]
