"""What `-o` means is pinned in scripts/mount/options.txt; here is what holds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.mount.options import FOREIGN, OPTIONS, Options, parse, shown
from fuseclient.kernel.identity import Ids
from pfs.errors import Kind, PfsError

FLAGS = st.frozensets(st.sampled_from(["ro", "noexec", "suid"]))
SIZES = st.integers(0, 1023).map(lambda count: count << 30)  # larger ones are shown rounded
OPTIONS_OF_A_MOUNT = st.builds(
    Options,
    allow_other=st.booleans(),
    cache_bytes=SIZES,
    shortcut=st.booleans(),
    write_behind=st.booleans(),
    ids=st.sampled_from([Ids.SQUASHED, Ids.JOB]),
    uid=st.none() | st.integers(0, 2**32 - 1),
    gid=st.none() | st.integers(0, 2**32 - 1),
    subdir=st.none() | st.sampled_from(["dc1", "dc1/home/ann"]),
    flags=FLAGS,
)


@given(st.text(",=\\ro_netdvxid-.\x00é", max_size=30))
def test_any_text_is_options_or_is_refused_in_one_line(text: str) -> None:
    refusals: list[PfsError] = []
    try:
        assert isinstance(parse([text]), Options)
    except PfsError as error:
        refusals.append(error)
    assert [each for each in refusals if each.kind is not Kind.INVALID or "\n" in str(each)] == []


@given(OPTIONS_OF_A_MOUNT)
def test_what_the_status_shows_means_the_same_again(options: Options) -> None:
    assert parse([shown(options)]) == options


def test_every_option_changes_something_and_its_opposite_takes_that_back() -> None:
    values = {"ids": "job", "cache_size": "2Gi", "log_level": "debug", "uid": "7", "gid": "7"}
    for option in OPTIONS:
        word = f"{option.name}={values.get(option.name, '/x')}" if option.value else option.name
        assert parse([word]) != Options(), option.name
        assert parse([word, option.opposite]) == (Options() if option.opposite else parse([word]))


def test_no_option_is_also_passed_over() -> None:
    assert FOREIGN.isdisjoint(name for option in OPTIONS for name in (option.name, option.opposite))


def test_what_is_not_known_is_passed_over_where_that_is_asked_for() -> None:
    assert parse(["foo,ro,reconnect"], sloppy=True) == parse(["ro"])
    with pytest.raises(PfsError):
        parse(["ids=mine"], sloppy=True)
