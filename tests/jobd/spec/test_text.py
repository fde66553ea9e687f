"""The tree of a spec file: what is read, and the limits that keep a hostile file cheap."""

from itertools import pairwise

import pytest

from jobd.spec.text import NODES_MAX, Document, Mapping, Node, Problem, Scalar, Sequence, complete, describe, read


def whole(text: str | bytes) -> Document:
    return read(text if isinstance(text, bytes) else text.encode(), whole=True)


def first_problem(text: str | bytes) -> Problem:
    document = whole(text)
    assert document.problems
    return document.problems[0]


def value_of(text: str) -> Node:
    root = whole(text).root
    assert isinstance(root, Mapping)
    value = root.entries[0][1]
    assert value is not None
    return value


def test_every_value_knows_its_place() -> None:
    root = whole("a: 1\nb:\n  - x\n  - {c: y}\n").root
    assert isinstance(root, Mapping)
    (a, one), (b, items) = root.entries
    assert (a.line, a.column) == (1, 1)
    assert one == Scalar("1", True, 1, 4)
    assert (b.line, b.column) == (2, 1)
    assert isinstance(items, Sequence)
    assert [(item.line, item.column) for item in items.items] == [(3, 5), (4, 5)]


def test_a_value_that_is_not_there_is_at_its_key() -> None:
    assert value_of("a:\n\n\nb: 1\n") == Scalar("", True, 1, 1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: x", "the text 'x'"),
        ("a: '5'", "the text '5'"),
        ("a: yes", "the text 'yes'"),
        ("a: 5", "the number 5"),
        ("a: 1e-3", "the number 1e-3"),
        ("a: true", "the truth value true"),
        ("a: ~", "nothing"),
        ("a:", "nothing"),
        ("a: [b]", "a list"),
        ("a: []", "an empty list"),
        ("a: {b: c}", "a mapping of keys to values"),
        ("a: {}", "an empty mapping"),
    ],
)
def test_values_are_called_by_their_kind(text: str, what: str) -> None:
    assert describe(value_of(text)) == what


def test_what_an_anchor_names_can_be_used_again() -> None:
    root = whole("a: &x [1, 2]\nb: *x\n").root
    assert isinstance(root, Mapping)
    assert root.entries[0][1] is root.entries[1][1]


def test_an_alias_bomb_stops_at_a_limit() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]" for a, b in pairwise("abcdefghi")]
    assert (
        first_problem("\n".join(lines)).message == f"more than {NODES_MAX} values, with aliases written out; use fewer"
    )


def test_a_list_without_end_stops_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobd.spec.text.NODES_MAX", 500)
    assert "more than 500 values" in first_problem("a: [" + "x," * 600).message


@pytest.mark.parametrize("text", ["[" * 500, "{a: " * 500, "- " * 500])
def test_nesting_without_end_stops_at_a_limit(text: str) -> None:
    assert "nested more than" in first_problem(text).message


@pytest.mark.parametrize("text", ["a: !x 1", "!x a: 1", "a: !!python/object:os.system {}", "a: !!str 5", "a: ! 5"])
def test_tags_are_refused(text: str) -> None:
    assert "tags" in first_problem(text).message


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (b"a: b\nc: \xff\n", 2, 4),
        (b"a: b\r\nc: \xc3\xa9\xc3", 2, 5),
        (b"a: \0\n", 1, 4),
        (b"\xef\xbb\xbfa: \x07\n", 1, 4),
        (b"\xff\xfea\0:\0", 1, 1),
        (b"a: \xed\xa0\x80\n", 1, 4),
    ],
)
def test_bytes_that_are_no_text_are_refused_at_their_place(text: bytes, line: int, column: int) -> None:
    problem = first_problem(text)
    assert (problem.line, problem.column) == (line, column)


@pytest.mark.parametrize("text", ["%YAML 1.3\n---\na: 1\n", 'a: "\\U99999999"\n', "%TAG !\n---\na: 1\n"])
def test_what_makes_the_parser_stumble_is_a_problem_of_the_text(text: str) -> None:
    assert first_problem(text).message


def test_more_than_a_mebibyte_is_refused() -> None:
    assert first_problem(b"#" * ((1 << 20) + 1)).message.startswith("the file is larger than 1 MiB")


def test_of_an_unfinished_text_only_what_is_certain_is_read() -> None:
    document = read(b"a: [x, y]\nb: z", whole=False)
    assert isinstance(document.root, Mapping)
    (_, first), (_, second) = document.root.entries
    assert complete(first)
    assert not complete(second)
    assert document.problems == ()


def test_half_a_character_at_the_end_may_still_become_one() -> None:
    assert read(b"a: \xc3", whole=False).problems == ()
    assert read(b"a: \xc3", whole=True).problems != ()
    assert read(b"a: \xc3\n", whole=False).problems != ()
