"""Sizes and durations: what they mean, and what is refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.spec.units import DURATION_S_MAX, SIZE_BYTES_MAX, format_size, parse_duration, parse_size

UNITS = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1Ki", 1024), ("1KiB", 1024), ("16GiB", 16 * 2**30), ("1.5Gi", 3 * 2**29), (" 2 MiB ", 2**21), ("0Gi", 0)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1024", "has no unit"),
        ("1.5", "has no unit"),
        ("16GB", "is no size"),
        ("16G", "is no size"),
        ("16gib", "is no size"),
        ("-1Gi", "is no size"),
        ("", "is no size"),
        ("1e3Gi", "is no size"),
        ("٣Gi", "is no size"),
        ("8Ei", "too large"),
        ("0.0001Ki", "whole number of bytes"),
        ("9" * 5000 + "Gi", "is no size"),
    ],
)
def test_refused_sizes(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_size(text)


@given(st.integers(0, 2**20), st.sampled_from(UNITS), st.sampled_from(["", "B"]))
def test_a_whole_number_of_units_is_exact(number: int, unit: str, ending: str) -> None:
    size_bytes = number * 1024 ** (UNITS.index(unit) + 1)
    if size_bytes <= SIZE_BYTES_MAX:
        assert parse_size(f"{number}{unit}{ending}") == size_bytes


@given(st.integers(1024, SIZE_BYTES_MAX - 2**59))
def test_a_shown_size_is_right_to_a_tenth_of_its_unit(size_bytes: int) -> None:
    shown = format_size(size_bytes)
    unit_bytes = 1024 ** (UNITS.index(shown[-3:-1]) + 1)
    shown_bytes = float(shown[:-3]) * unit_bytes
    assert abs(shown_bytes - size_bytes) <= 0.05 * unit_bytes * 1.001


def test_small_sizes_are_shown_in_bytes() -> None:
    assert format_size(0) == "0 bytes"
    assert format_size(1023) == "1023 bytes"
    assert format_size(1024) == "1KiB"


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1d2h3m4s", 93784),
        ("0.5h", 1800),
        ("0s", 0),
        ("02:30:00", 9000),
        ("100:00:00", 360000),
        ("1-12:00:00", 129600),
        (" 5m ", 300),
    ],
)
def test_durations(text: str, duration_s: float) -> None:
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("90", "has no unit"),
        ("", "is no duration"),
        ("30m1h", "is no duration"),
        ("1h1h", "is no duration"),
        ("1w", "is no duration"),
        ("5 m", "is no duration"),
        ("-5m", "is no duration"),
        ("1:30", "is no duration"),
        ("01:60:00", "is no duration"),
        ("36501d", "too long"),
        ("99999-00:00:00", "too long"),
    ],
)
def test_refused_durations(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_both_ways_to_write_a_duration_agree(days: int, hours: int, minutes: int, seconds: int) -> None:
    clock = parse_duration(f"{days}-{hours:02}:{minutes:02}:{seconds:02}")
    assert clock == parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == clock
    assert clock == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_duration(text) <= DURATION_S_MAX


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_size(text) <= SIZE_BYTES_MAX
