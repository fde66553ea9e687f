"""The spec: properties of whole files; what each key means, and each problem, is pinned in scripts/spec."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.spec.chain import RETRY_KEYS
from jobd.spec.groups import GROUP_KEYS, PROCESSES_MAX, RESOURCE_KEYS
from jobd.spec.model import GroupSpec, JobSpec
from jobd.spec.sources import GIT_KEYS
from jobd.spec.spec import (
    NOT_YET,
    PADDLE_FIELDS,
    PREFIX_BYTES_MAX,
    PROBLEMS_MAX,
    SUPPORTED,
    SpecError,
    is_complete,
    parse_spec,
    prefix_problems,
)
from pfs.errors import Kind

WORDS = st.text("abcz019 é-_.:#'\"\\{}[],&*!|>%@`\t", min_size=1, max_size=12).filter(str.strip)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: not name.startswith("by-"))
VARIABLES = st.from_regex(r"X_[A-Za-z0-9_]{0,5}", fullmatch=True)
ENVS = st.dictionaries(VARIABLES, st.text("ab 0.1:é\n", max_size=6), max_size=3)
NEEDS = st.fixed_dictionaries(
    {}, optional={"cpu": st.integers(1, 9), "memory": st.just("1GiB"), "gpu": st.integers(0, 4) | st.just({"p100": 2})}
)
PLACES: dict[str, st.SearchStrategy[Any]] = {
    "nodes": st.sampled_from(["n0", ["n0", "n1"]]),
    "require": st.dictionaries(st.sampled_from(["cpuCount", "gpuModel"]), st.sampled_from([4, ">=4", "= a b"])),
}
GROUPS = st.fixed_dictionaries(
    {}, optional={"count": st.integers(1, 9), "resources": NEEDS, "env": ENVS, "command": WORDS, **PLACES}
)
SERVICES = st.fixed_dictionaries({"service": st.just(True)}, optional={"count": st.integers(1, 3), "name": NAMES})
ARRAYS = st.from_regex(r"[0-9]{1,3}(,1[0-9]-9[0-9](:[1-9])?)?(%[1-9])?", fullmatch=True)
REST: dict[str, st.SearchStrategy[Any]] = {
    "name": NAMES,
    "title": st.text("ab é'\":#", min_size=1, max_size=10).filter(str.strip),
    "image": st.sampled_from(["python:3.11-slim", "localhost:5000/a/b@sha256:" + "0" * 64]),
    "env": ENVS,
    "end": st.sampled_from(["all", "any"]),
    "on_error": st.sampled_from(["stop", "continue"]),
    "priority": st.integers(0, 100),
    "max_duration": st.sampled_from(["90s", "2h", "1-00:00:00"]),
    "grace": st.sampled_from(["0s", "30s"]),
    "private": st.booleans(),
    "hold": st.booleans(),
    "shm": st.just("1GiB"),
    "mounts": st.just(["data:/data", "/pfs/dc1/shared/x:/x/y:ro"]),
    "continue": st.integers(1, 99),
    "retry": st.fixed_dictionaries({"max": st.integers(1, 100)}, optional={"on": st.sampled_from(["node", ["error"]])}),
    "depends_on": st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True) | st.just("afterany:3"),
    "array": ARRAYS,
    **PLACES,
}

# valid specs as values, and ways to write them
NATIVE: st.SearchStrategy[dict[str, Any]] = st.one_of(
    *(
        st.fixed_dictionaries({"command": WORDS | st.lists(WORDS, min_size=1, max_size=3), **form}, optional=REST)
        for form in (
            {"src": st.sampled_from(["digits", "a/b/", "/pfs/dc1/home/ann/digits", "tree:0a"])},
            {"git": st.just({"url": "https://example.org/a.git", "ref": "main"})},
            {"resources": st.sampled_from(["[]", "2:[8:p100],[]"])},
            {"groups": st.tuples(GROUPS).map(list) | st.tuples(GROUPS, SERVICES).map(list)},
        )
    )
)
PADDLE: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"entry": WORDS},
    optional={
        **REST,
        "job_package": st.sampled_from(["digits", "/pfs/dc1/home/ann/digits"]),
        "parallelism": st.integers(1, 9),
        "cpu": st.sampled_from([1, 0.5]),
        "gpu": st.integers(0, 9),
        "memory": st.just("1Gi"),
        "pservers": st.integers(0, 9),
        "pscpu": st.integers(1, 9),
        "psmemory": st.just("512Mi"),
        "topology": st.sampled_from(["", "train.py"]),
        "datacenter": st.just("dc1"),
        "passes": st.integers(1, 9),
        "faulttolerant": st.booleans(),
        "minInstance": st.just(1),
        "image": st.sampled_from(["", "a:b"]),
        "registry": st.just(""),
        "max_instance": st.just(9),
    },
)
SPECS = NATIVE | PADDLE


def as_block(value: dict[str, Any]) -> str:
    """Write YAML with one key in a line; the values are JSON, so that every text is quoted properly."""
    return "".join(f"{key}:\n  {json.dumps(entry)}\n# and\n" for key, entry in value.items())


WRITERS = [
    as_block,
    lambda value: (
        "---\n" + "".join(f"{key}: {json.dumps(entry, ensure_ascii=False)}\n" for key, entry in value.items())
    ),
    json.dumps,
    lambda value: json.dumps(value, indent="\t", ensure_ascii=False) + "\n",
    lambda value: json.dumps(value, separators=(",", ":")),
]
TEXTS = st.builds(lambda value, write: write(value).encode(), SPECS, st.sampled_from(WRITERS))

WRITTEN_BY_PEOPLE = [
    b"\xef\xbb\xbfcommand: ls\n",
    b"command: ls\r\ntitle: x\r\n",
    b"%YAML 1.2\n---\ncommand: ls\n...\n",
    b"# why\n\ncommand: >-\n  python\n  train.py\n\n  --all\ntitle: a b\n  c\n",
    b"command: |\n  set -e\n\n  nonsense: x\n  priority: high\nenv:\n  A: &a 1\n  B: *a\n",
    b"command:\n- python\n- train.py\n- 'it''s'\n- \"a\\\n  b\"\n",
    b"{command: [python, train.py], env: {A: 1, B: }, title: ab}\n",
    b"{ # flow\n command: ls, priority: 5,\n}\n",
    b"? command\n: ls\n? title\n: x\n",
    "title: Übung №2\ncommand: ls\n".encode(),
    b"groups:\n  - name: a\n    resources:\n      cpu: 1\n      memory: 1Gi\n    command: ls\n    image: a:b\n",
    b"command: ls\nresources: 1:[2:gtx1070,p100]\n",
    b'"command": "ls"\n\'title\': x\n',
    b"command: ls",
    b"command: a\n b\n c",
]


@settings(max_examples=4)
@given(TEXTS)
def test_no_prefix_of_a_valid_spec_is_refused(text: bytes) -> None:
    parse_spec(text, "x")
    for size in range(len(text) + 1):
        assert prefix_problems(text[:size]) == ()


@pytest.mark.parametrize("text", WRITTEN_BY_PEOPLE)
def test_no_prefix_of_what_people_write_is_refused(text: bytes) -> None:
    parse_spec(text, "x")
    for size in range(len(text) + 1):
        assert prefix_problems(text[:size]) == ()


INGREDIENTS = [
    *("a: ", "command: ls", "priority: high", "priority: 5", "title: x", "groups:", "resources: ", "env:", "nmae: x"),
    *(
        "- ",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        ",",
        '"',
        "'",
        "\\",
        "&a ",
        "*a",
        "<<: *a",
        "!x ",
        "---",
        "...",
        "%YAML 1.2",
    ),
    *(
        "#",
        " ",
        "  ",
        "\t",
        "\r\n",
        "\x85",
        "é",
        "~",
        "@",
        "`",
        ">",
        "|",
        "-",
        "1",
        "[]",
        "{}",
        "\\ud83d",
        "\0",
        "😀",
        "\ufeff",
    ),
    *("\n", "\n", "\n", "\n  "),
]
SOUP = st.lists(st.sampled_from(INGREDIENTS), max_size=14).map("".join)


@given(SOUP, st.data())
def test_what_is_refused_early_is_refused_whatever_follows(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    prefix = whole[: data.draw(st.integers(0, len(whole)))]
    if prefix_problems(prefix):
        with pytest.raises(SpecError):
            parse_spec(whole, "x")


@given(SOUP)
def test_any_text_is_a_spec_or_is_refused_at_places_of_it(text: str) -> None:
    problems = refused(text.encode())
    lines = len(text.splitlines()) + 1
    assert all(1 <= problem.line <= lines and problem.column >= 1 and problem.message for problem in problems)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_spec_or_are_refused(text: bytes) -> None:
    refused(text)
    prefix_problems(text)
    is_complete(text)


def refused(text: bytes) -> tuple[Any, ...]:
    try:
        parse_spec(text, "x")
    except SpecError as error:
        return error.problems
    return ()


@given(TEXTS)
def test_a_spec_comes_back_from_json(text: bytes) -> None:
    spec = parse_spec(text, "x")
    assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(SPECS)
def test_it_does_not_matter_how_the_same_spec_is_written(value: dict[str, Any]) -> None:
    assert len({json.dumps(parse_spec(write(value).encode(), "x").to_json()) for write in WRITERS}) == 1


def test_the_name_is_the_stem_unless_the_spec_has_one() -> None:
    assert parse_spec(b"command: ls\n", "digits") == JobSpec(
        "digits", "digits", (GroupSpec("worker", 1, ("sh", "-c", "ls")),)
    )
    assert parse_spec(b"command: ls\nname: other\n", "17").name == "other"


def test_the_error_holds_all_problems_one_in_a_line() -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(b"nmae: x\npriority: 200\n", "x")
    assert raised.value.kind is Kind.INVALID
    assert [(problem.line, problem.column) for problem in raised.value.problems] == [(1, 1), (1, 1), (2, 11)]
    assert str(raised.value).splitlines()[2] == (
        "line 2, column 11: expected a whole number from 0 to 100, found the number 200"
    )


def test_a_thousand_problems_are_cut_short() -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(b"".join(b"wrong%d: x\n" % number for number in range(1000)), "x")
    assert len(raised.value.problems) == PROBLEMS_MAX + 1
    assert "901 more problems" in str(raised.value)


@pytest.mark.parametrize("key", sorted(NOT_YET))
def test_keys_that_come_later_are_known_and_refused(key: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_spec(f"command: ls\n{key}: [any, shape]\n".encode(), "x")
    assert str(raised.value) == f"line 2, column 1: {key} is not supported by this server yet; remove it"


def test_no_key_is_in_two_tables() -> None:
    tables = (NOT_YET, set(SUPPORTED), set(PADDLE_FIELDS))
    assert sum(len(table) for table in tables) == len(set().union(*tables))


def test_a_command_is_only_needed_where_no_folder_brings_its_own() -> None:
    assert parse_spec(b"src: digits\n", "x").groups[0].argv == ("bash", ".compute")
    assert parse_spec(b"groups: [{command: ls}]\n", "x").groups[0].argv == ("sh", "-c", "ls")
    with pytest.raises(SpecError, match="no command"):
        parse_spec(b"title: x\n", "x")


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        (b"", False),
        (b"command: ls", False),
        (b"command: ls\n", True),
        (b"command: |\n  ls\n", True),
        (b'{"command": "ls"}', True),
        (b' {"command": "ls"}  ', True),
        (b'{"command": "ls"', False),
        (b'{"command": "{}"', False),
        (b"{command: ls}", False),
        (b'["a"]', False),
        (b"{" * 5000 + b"}" * 5000, False),
        (b'{"a":' * 5000, False),
        (b'{"a": "\xff"}', False),
    ],
)
def test_a_text_is_complete_with_its_last_newline_or_as_a_closed_object(text: bytes, complete: bool) -> None:
    assert is_complete(text) is complete


def test_large_texts_are_only_judged_at_their_end() -> None:
    assert prefix_problems(b"nmae: x\n" + b"#" * PREFIX_BYTES_MAX) == ()
    assert prefix_problems(b"#" * (2 << 20)) != ()


def test_more_than_a_program_can_be_started_with_is_refused() -> None:
    long = b"x" * (128 * 1024)
    with pytest.raises(SpecError, match="128 KiB"):
        parse_spec(b"command: " + long + b"\n", "x")
    with pytest.raises(SpecError, match="128 KiB"):
        parse_spec(b"command: ls\nenv: {A: " + long + b"}\n", "x")


ALL_KEYS = sorted({*SUPPORTED, *PADDLE_FIELDS, *NOT_YET, "nmae"})
INNER_KEYS = {*GROUP_KEYS, *RESOURCE_KEYS, *RETRY_KEYS, *GIT_KEYS, "cpuCount"}

# pieces that the readers look at, in any arrangement
PIECES = st.lists(
    st.sampled_from(
        ["1", "0", "-", ":", ",", "%", "/", "pfs", "..", "ro", "afterok", "afterany:", ">=", "=", "tree:", "https://"],
    )
    | st.sampled_from(
        ["git@h:", "example.org", "99999999999", "node", "a b", "é", "\t", "\n", "[", "]", "", "true", "x", "1Gi"],
    ),
    max_size=5,
).map("".join)
VALUES: st.SearchStrategy[Any] = st.recursive(
    PIECES | st.integers(-1, 10**30) | st.booleans() | st.none() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(INNER_KEYS)) | PIECES, inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(ALL_KEYS), VALUES, min_size=1, max_size=6), st.data())
def test_any_values_of_any_keys_are_a_spec_or_are_refused(value: dict[str, Any], data: st.DataObject) -> None:
    text = "".join(f"{key}: {json.dumps(entry)}\n" for key, entry in value.items()).encode()
    problems = refused(text)
    cut = data.draw(st.integers(0, len(text)))
    assert set(prefix_problems(text[:cut])) <= set(problems)
    if not problems:
        spec = parse_spec(text, "x")
        assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert 1 <= spec.process_count <= PROCESSES_MAX
        assert not all(group.service for group in spec.groups)
