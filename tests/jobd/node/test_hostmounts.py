"""Mounts of a node: how they are written, which places in a container and which paths of the machine are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.node.hostmounts import KEPT_TARGETS, HostMount, normal, parse_mounts, source_problem
from pfs.errors import Kind, PfsError

KEPT = {"/run/docker.sock": "the engine's socket", "/srv/pfs": "the data root", "/etc": "settings"}


def test_mounts_are_written_with_commas_or_one_by_one() -> None:
    seed = "/home/paperspace/gradient-node:/paperspace/hi,/home/paperspace/volume-test:/paperspace/bye"
    hi = HostMount("/home/paperspace/gradient-node", "/paperspace/hi", read_only=False)
    bye = HostMount("/home/paperspace/volume-test", "/paperspace/bye", read_only=False)
    assert parse_mounts([seed]) == parse_mounts(seed.split(",")) == parse_mounts([f" {seed} ,", ""]) == (hi, bye)
    assert parse_mounts([]) == parse_mounts([""]) == ()


def test_a_mount_may_be_read_only_and_is_written_back_as_it_was() -> None:
    (mount,) = parse_mounts(["/srv/data:/data:ro"])
    assert mount == HostMount("/srv/data", "/data", read_only=True)
    assert str(mount) == "/srv/data:/data:ro"


@pytest.mark.parametrize(
    "target",
    [
        *("/", "//", "/.", "/..", "/artifacts", "/artifacts/", "/paperspace", "//paperspace/.", "/a/../paperspace"),
        *("/proc", "/proc/sys", "/sys/fs", "/dev", "/dev/shm", "/pfs", "/pfs/dc1", "/x/../pfs/dc1", "/../proc"),
    ],
)
def test_places_that_are_the_jobs_own_are_refused(target: str) -> None:
    with pytest.raises(PfsError, match="tasks have something of their own at /") as caught:
        parse_mounts([f"/srv/data:{target}"])
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    "target", ["/paperspace/x", "/artifacts/x", "/storage", "/data", "/processes", "/pfsx", "/a/b"]
)
def test_places_beside_and_below_them_are_not(target: str) -> None:
    assert parse_mounts([f"/srv/data:{target}"])[0].target == target


def test_a_place_is_taken_as_the_container_takes_it() -> None:
    assert parse_mounts(["/srv:/a//b/./c/../d/"])[0].target == "/a/b/d"


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("/srv/data", "write host:container"),
        (":/data", "write host:container"),
        ("/srv/data:", "write host:container"),
        ("/srv::ro", "write host:container"),
        ("/srv/data:/data:rw", "only :ro can stand"),
        ("/srv/data:/data:", "only :ro can stand"),
        ("/srv/data:/data:ro:ro", "only :ro can stand"),
        ("srv/data:/data", "both paths begin with /"),
        ("/srv/data:data", "both paths begin with /"),
        ("/srv/\x07:/data", "a control character"),
        ("/a:/data,/b:/data/", r"/b:/data: /a:/data has the same place"),
        ("/a:/data:ro,/b:/data/x", "it has no place in /a:/data:ro"),
    ],
)
def test_what_cannot_be_is_named(word: str, words: str) -> None:
    with pytest.raises(PfsError, match=words):
        parse_mounts([word])


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(PfsError) as caught:
        parse_mounts(["/a:/data,b:/c", "/d:/proc"])
    said = str(caught.value)
    assert said.count("--mount") == 2
    assert "b:/c: both" in said
    assert "/d:/proc: tasks" in said


def test_a_mount_below_another_that_can_be_written_to_is_well() -> None:
    assert len(parse_mounts(["/a:/data,/b:/data/x"])) == 2


@pytest.mark.parametrize(
    ("real", "words"),
    [
        ("/", "the whole machine"),
        ("/etc", "it is settings"),
        ("/etc/ssl", "it lies in /etc, settings"),
        ("/run", "it contains /run/docker.sock, the engine's socket"),
        ("/run/docker.sock", "it is the engine's socket"),
        ("/srv", "it contains /srv/pfs, the data root"),
        ("/srv/pfs/home/ann", "it lies in /srv/pfs, the data root"),
    ],
)
def test_what_would_open_the_machine_is_refused(real: str, words: str) -> None:
    assert source_problem(real, KEPT, None) == words.replace("the whole", "this is the whole")


@pytest.mark.parametrize("real", ["/srv/data", "/srv/pfs2", "/etcetera", "/run/media/disk", "/home/ann"])
def test_what_is_beside_it_is_not(real: str) -> None:
    assert source_problem(real, KEPT, None) == ""


def test_a_policy_says_where_mounts_may_lie() -> None:
    assert source_problem("/srv/data/x", {}, ("/srv/data",)) == ""
    assert source_problem("/srv/data2", {}, ("/srv/data",)) == "the policy of this node allows mounts of /srv/data only"
    assert source_problem("/srv/data", {}, ()) == "the policy of this node allows no mounts"


@given(
    st.lists(st.sampled_from(["", ".", "..", "a", "b", "proc"]), max_size=8).map(lambda parts: "/" + "/".join(parts))
)
def test_a_normal_path_has_no_odd_parts_and_stays_as_it_is(path: str) -> None:
    found = normal(path)
    assert found.startswith("/")
    assert not {".", ".."} & set(found.split("/"))
    assert "//" not in found
    assert normal(found) == found


@given(
    st.lists(st.sampled_from(["/", "a", ":", ",", "..", "ro", " ", "proc", "pfs", "paperspace"]), max_size=14).map(
        "".join
    )
)
def test_whatever_is_accepted_has_a_place_of_its_own(text: str) -> None:
    try:
        found = parse_mounts([text])
    except PfsError:
        return
    assert len({mount.target for mount in found}) == len(found)
    for mount in found:
        assert mount.source.startswith("/")
        assert mount.target not in KEPT_TARGETS
        assert mount.target.split("/")[1] not in ("proc", "pfs")
        assert parse_mounts([str(mount)]) == (mount,)
