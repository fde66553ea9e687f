"""Who is shown as owner, and what a wish to change one becomes."""

import pytest

from fuseclient.kernel.identity import Identity, Ids
from pfs.api import Attr, Changes, NodeType, Owner
from pfs.errors import Kind, PfsError

MOUNTER, MAKER = Owner(1000, 1001), Owner(2000, 2001)
SQUASHED, JOB, NUMERIC = (Identity(ids, MOUNTER) for ids in Ids)
DIRECTORY = Attr(NodeType.DIRECTORY, 1, 0o755, uid=7, gid=8)
HANDING_ON = Attr(NodeType.DIRECTORY, 1, 0o2775, uid=7, gid=8)


@pytest.mark.parametrize(("identity", "shown"), [(SQUASHED, MOUNTER), (JOB, MOUNTER), (NUMERIC, Owner(7, 8))])
def test_whose_a_file_is_shown_to_be(identity: Identity, shown: Owner) -> None:
    assert identity.shown(DIRECTORY) == shown


@pytest.mark.parametrize(("identity", "mode"), [(SQUASHED, 0o751), (JOB, 0o751), (NUMERIC, 0o7751)])
def test_bits_beyond_permissions_count_only_where_numbers_do(identity: Identity, mode: int) -> None:
    assert identity.mode(0o7751) == mode
    assert identity.changes(Changes(mode=0o7751)) == Changes(mode=mode)
    assert identity.made(MAKER, NodeType.FILE, 0o7751, DIRECTORY)[0] == mode


@pytest.mark.parametrize("identity", [SQUASHED, JOB, NUMERIC])
def test_other_changes_are_asked_for_as_they_are(identity: Identity) -> None:
    changes = Changes(mode=0o600, size=1, atime_ns=2, mtime_ns=3)
    assert identity.changes(changes) == changes


@pytest.mark.parametrize("identity", [SQUASHED, JOB])
@pytest.mark.parametrize("asked", [Changes(uid=1000), Changes(gid=1001), Changes(uid=1000, gid=1001)])
def test_giving_a_file_to_its_owner_is_done_already(identity: Identity, asked: Changes) -> None:
    assert identity.changes(asked) == Changes()


@pytest.mark.parametrize("asked", [Changes(uid=0), Changes(gid=0), Changes(uid=1000, gid=0), Changes(uid=0, gid=1001)])
def test_giving_a_file_to_somebody_else(asked: Changes) -> None:
    with pytest.raises(PfsError) as caught:
        SQUASHED.changes(asked)
    assert caught.value.kind is Kind.FORBIDDEN
    assert JOB.changes(asked) == Changes()
    assert NUMERIC.changes(asked) == asked


@pytest.mark.parametrize("identity", [SQUASHED, JOB])
@pytest.mark.parametrize("directory", [None, HANDING_ON])
def test_the_server_chooses_owners_where_numbers_mean_nothing(identity: Identity, directory: Attr | None) -> None:
    assert identity.made(MAKER, NodeType.DIRECTORY, 0o755, directory) == (0o755, None)


def test_what_is_made_belongs_to_its_maker() -> None:
    assert NUMERIC.made(MAKER, NodeType.DIRECTORY, 0o755, DIRECTORY) == (0o755, MAKER)
    assert NUMERIC.made(MAKER, NodeType.FILE, 0o755, None) == (0o755, MAKER)


@pytest.mark.parametrize(("mode", "left"), [(0o6755, 0o755), (0o4755, 0o755), (0o2745, 0o2745), (0o1644, 0o1644)])
def test_a_program_that_somebody_empties_is_no_longer_set_id(mode: int, left: int) -> None:
    assert NUMERIC.emptied(MAKER, mode) == left
    assert NUMERIC.emptied(Owner(0, 0), mode) == mode


def test_a_directory_hands_on_its_group_and_to_directories_also_the_bit() -> None:
    assert NUMERIC.made(MAKER, NodeType.DIRECTORY, 0o755, HANDING_ON) == (0o2755, Owner(2000, 8))
    for type_ in (NodeType.FILE, NodeType.SYMLINK, NodeType.FIFO, NodeType.SOCKET):
        assert NUMERIC.made(MAKER, type_, 0o755, HANDING_ON) == (0o755, Owner(2000, 8))
