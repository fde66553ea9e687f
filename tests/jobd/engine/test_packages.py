"""Which folders a spec names, what processes see of them, and who may have them."""

import pytest

from jobd.engine.packages import folders, locate, volumes
from jobd.spec.model import GroupSpec, JobSpec, Mount, Paddle
from jobd.wire import TaskVolume
from pfs.errors import Kind, PfsError
from pfs.perm import Subject

ANN = Subject("ann", groups=frozenset({"ml"}))


def spec(*mounts: Mount, package: str | None = None) -> JobSpec:
    group = GroupSpec("worker", 1, ("true",))
    paddle = None if package is None else Paddle(package)
    return JobSpec("j", "j", (group,), mounts=mounts, paddle=paddle)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("data", "home/ann/data"),
        ("data/", "home/ann/data"),
        ("/pfs/dc1/home/ann", "home/ann"),
        ("/pfs/dc1/home/ann/a/b", "home/ann/a/b"),
        ("/pfs/dc1/groups/ml/set", "groups/ml/set"),
        ("/pfs/dc1/shared", "shared"),
        ("/pfs/dc1/public/x", "shared/x"),
    ],
)
def test_a_folder_is_meant_by_its_whole_path_or_from_the_home(source: str, path: str) -> None:
    assert locate(source, ANN, "dc1", "src").path == path


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/pfs/dc1/home/bob", Kind.NOT_FOUND),
        ("/pfs/dc1/groups/other", Kind.NOT_FOUND),
        ("/pfs/dc2/home/ann", Kind.INVALID),
        ("/pfs/dc1", Kind.INVALID),
        ("/pfs/dc1/home", Kind.INVALID),
        ("/pfs/dc1/jobs/1/src", Kind.INVALID),
        ("/etc", Kind.INVALID),
        ("../bob", Kind.INVALID),
        ("a/../../bob", Kind.INVALID),
    ],
)
def test_what_is_nobodys_or_somebody_elses_is_refused(source: str, kind: Kind) -> None:
    with pytest.raises(PfsError) as caught:
        locate(source, ANN, "dc1", "src")
    assert caught.value.kind is kind
    with pytest.raises(PfsError):
        volumes(spec(Mount(source, "/data", True)), ANN, "dc1")
    with pytest.raises(PfsError):
        folders(spec(package=source), ANN, "dc1")


def test_mounts_are_seen_where_the_spec_says_and_written_to_where_both_allow() -> None:
    mounts = (
        Mount("data", "/data", True),
        Mount("data", "/rw", False),
        Mount("/pfs/dc1/shared/sets", "/sets", False),
        Mount("/pfs/dc1/groups/ml", "/ml", False),
    )
    assert volumes(spec(*mounts), ANN, "dc1") == (
        TaskVolume("home/ann/data", "/data", read_only=True),
        TaskVolume("home/ann/data", "/rw", read_only=False),
        TaskVolume("shared/sets", "/sets", read_only=True),
        TaskVolume("groups/ml", "/ml", read_only=False),
    )


def test_a_package_is_used_in_place_under_its_own_path() -> None:
    assert volumes(spec(package="/pfs/dc1/home/ann/jobs/x"), ANN, "dc1") == ()
    assert volumes(spec(package="/pfs/dc1/shared/x"), ANN, "dc1") == ()
    assert volumes(spec(package="/pfs/dc1/groups/ml/x"), ANN, "dc1") == (
        TaskVolume("groups/ml/x", "/pfs/dc1/groups/ml/x", read_only=False),
    )
    admin = Subject("root", admin=True)
    assert volumes(spec(package="/pfs/dc1/home/ann/x"), admin, "dc1") == (
        TaskVolume("home/ann/x", "/pfs/dc1/home/ann/x", read_only=False),
    )
    assert [folder.path for folder in folders(spec(Mount("d", "/d", True), package="p"), ANN, "dc1")] == [
        "home/ann/d",
        "home/ann/p",
    ]
