"""Paths: what can be a name, what can be a path, and the form that users write."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.errors import Kind, PfsError
from pfs.path import check_name, check_target, from_absolute, join, parent_and_name, split, to_absolute

# every character, with the halves of surrogate pairs among them
ANYTHING = st.text(st.characters(codec=None, categories=None))
NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")


def kind_of(check: Callable[[str], object], text: str) -> Kind | None:
    try:
        check(text)
    except PfsError as error:
        return error.kind
    return None


@pytest.mark.parametrize(
    "name", ["a", "...", ".hidden", " ", "a b", "-rf", "\n", "ä", NOT_UTF8, "a\\b", "CON", "x" * 255]
)
def test_a_name_is_almost_anything(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\ud800"])
def test_what_cannot_be_a_name(name: str) -> None:
    assert kind_of(check_name, name) is Kind.INVALID


@pytest.mark.parametrize(("name", "fits"), [("ä" * 127 + "x", True), ("ä" * 128, False), ("\udcff" * 256, False)])
def test_a_name_is_measured_in_bytes(name: str, fits: bool) -> None:
    assert kind_of(check_name, name) is (None if fits else Kind.NAME_TOO_LONG)


def test_the_root_has_no_parts() -> None:
    assert split("") == []


def test_a_path_is_its_names() -> None:
    assert split(f"home/ann/{NOT_UTF8}") == ["home", "ann", NOT_UTF8]


@pytest.mark.parametrize("path", ["/", "/a", "a/", "a//b", "a/./b", "a/../b", "..", "a/\0", "a/\ud800/b"])
def test_a_path_has_one_form_only(path: str) -> None:
    assert kind_of(split, path) is Kind.INVALID


def test_a_path_has_at_most_4095_bytes() -> None:
    longest = "/".join(["ä" * 127] * 16) + "/" + "x" * 15
    assert len(longest.encode()) == 4095
    assert len(split(longest)) == 17
    assert kind_of(split, longest + "x") is Kind.NAME_TOO_LONG


@given(ANYTHING)
def test_nothing_but_our_error_comes_out_of_a_check(text: str) -> None:
    for check in (check_name, split, check_target):
        kind_of(check, text)


@given(st.lists(st.text(min_size=1, max_size=10).filter(lambda name: kind_of(check_name, name) is None), max_size=6))
def test_joining_undoes_splitting(names: list[str]) -> None:
    path = ""
    for name in names:
        path = join(path, name)
    assert split(path) == names
    if names:
        assert parent_and_name(path) == ("/".join(names[:-1]), names[-1])


def test_the_root_has_no_name() -> None:
    assert kind_of(parent_and_name, "") is Kind.INVALID


@pytest.mark.parametrize("target", ["x", "../..", "/etc/passwd", "a//b/", NOT_UTF8, "x" * 4095])
def test_a_link_may_lead_anywhere(target: str) -> None:
    assert check_target(target) == target


@pytest.mark.parametrize(
    ("target", "kind"),
    [("", Kind.INVALID), ("a\0", Kind.INVALID), ("\ud800", Kind.INVALID), ("x" * 4096, Kind.NAME_TOO_LONG)],
)
def test_what_a_link_cannot_hold(target: str, kind: Kind) -> None:
    assert kind_of(check_target, target) is kind


@pytest.mark.parametrize(
    ("text", "path"),
    [("/pfs/dc1", ""), ("/pfs/dc1/", ""), ("/pfs/dc1/home/ann", "home/ann"), ("/pfs/dc1/home/ann/", "home/ann")],
)
def test_the_form_that_users_write(text: str, path: str) -> None:
    assert from_absolute(text, "dc1") == path


@pytest.mark.parametrize(
    "text", ["", "home/ann", "/pfs", "/pfs/dc", "/pfs/dc10/x", "/pfs/dc2/x", "/pfs/dc1/a/../b", "/pfs/dc1/a//b"]
)
def test_what_is_not_of_this_datacenter_is_refused(text: str) -> None:
    assert kind_of(lambda form: from_absolute(form, "dc1"), text) is Kind.INVALID


@pytest.mark.parametrize("path", ["", "home", "home/ann/x"])
def test_both_forms_say_the_same(path: str) -> None:
    assert from_absolute(to_absolute(path, "dc1"), "dc1") == path
