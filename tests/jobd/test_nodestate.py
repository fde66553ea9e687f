"""How a node is shown."""

import pytest

from jobd.nodestate import Closed, NodeState, state_of

DRAINED, SET_ASIDE = Closed("ann", "", 1), Closed("", "it fails", 1)


@pytest.mark.parametrize(
    ("contact", "closed", "busy", "state"),
    [
        (NodeState.ONLINE, None, True, NodeState.ONLINE),
        (NodeState.ONLINE, DRAINED, True, NodeState.DRAINING),
        (NodeState.ONLINE, DRAINED, False, NodeState.DRAINED),
        (NodeState.ONLINE, SET_ASIDE, True, NodeState.SETASIDE),
        (NodeState.SUSPECT, DRAINED, False, NodeState.SUSPECT),
        (NodeState.UNKNOWN, SET_ASIDE, True, NodeState.UNKNOWN),
    ],
)
def test_what_is_not_heard_of_counts_more_than_what_people_want(
    contact: NodeState, closed: Closed | None, busy: bool, state: NodeState
) -> None:
    assert state_of(contact, closed, busy=busy) is state


def test_who_closed_a_node_and_why_is_one_sentence() -> None:
    assert Closed("ann", "new disk", 1).text == "drained by ann: new disk"
    assert DRAINED.text == "drained by ann"
    assert SET_ASIDE.text == "set aside: it fails"
