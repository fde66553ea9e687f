"""Specs as clients write them: another `src` in somebody's text, and specs made of options."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cli.submit.spectext import name_of, src_of, with_src, written
from jobd.spec.values import name_problem
from pfs.errors import PfsError

TREE = "tree:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "src", "after"),
    [
        ("src: ./digits\ncommand: x\n", "./digits", "src: {tree}\ncommand: x\n"),
        (
            "# mine\ncommand: x   # run\nsrc: 'a b'  # here\n",
            "a b",
            "# mine\ncommand: x   # run\nsrc: {tree}  # here\n",
        ),
        ('{"src": "d", "command": "x"}', "d", '{"src": "{tree}", "command": "x"}'),
        ("src:\n  >-\n  d\nname: é\n", "d", None),
        ("name: é€😀\nsrc: d\n", "d", "name: é€😀\nsrc: {tree}\n"),
        ("# first\ncommand: x\n", None, "# first\nsrc: {tree}\ncommand: x\n"),
        ('{"command": "x"}', None, '{"src": "{tree}", "command": "x"}'),
        ("groups:\n- {src: no}\n", None, "src: {tree}\ngroups:\n- {src: no}\n"),
    ],
)
def test_src_is_replaced_and_all_else_stays_as_it_was_written(text: str, src: str | None, after: str | None) -> None:
    assert src_of(text.encode()) == src
    changed = with_src(text.encode(), TREE).decode()
    assert YAML(typ="safe", pure=True).load(changed)["src"] == TREE
    if after is not None:
        assert changed == after.replace("{tree}", TREE)


def test_a_text_that_the_server_takes_is_read_without_a_warning() -> None:
    assert src_of(b"name: &a x\ncommand: &a y\nsrc: d\n") == "d"


@pytest.mark.parametrize("text", [b"", b"- a\n", b"a: [\n", b"\xff\n", b"text\n"])
def test_what_is_no_spec_has_no_src_and_gets_none(text: bytes) -> None:
    assert src_of(text) is None
    with pytest.raises(PfsError):
        with_src(text, TREE)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_through_as_it_was_given(text: str) -> None:
    loaded = YAML(typ="safe", pure=True).load(written({"title": text, "command": ["bash", "-c", text], "image": None}))
    assert loaded == {"title": text, "command": ["bash", "-c", text]}


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(PfsError, match="UTF-8"):
        written({"title": "\udcff"})


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("First light", "First-light"),
        ("  ../x: y! ", "x-y"),
        ("2024", "job-2024"),
        ("by-me", "job-by-me"),
        ("漢字", "job"),
        ("a" * 100, "a" * 40),
    ],
)
def test_a_title_gives_a_name(title: str, name: str) -> None:
    assert name_of(title) == name


@given(st.text())
def test_every_title_gives_a_name_that_can_be_one(title: str) -> None:
    assert name_problem(name_of(title)) is None
