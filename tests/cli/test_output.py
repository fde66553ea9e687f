import pytest

from cli.output import age, pit_since, read_tables, table


def test_a_table_is_as_wide_as_its_cells_and_shows_no_control_characters():
    assert table(["ID", "NAME"], [["1", "a"], ["10", "b\x1b[31mc"]]) == "ID  NAME\n1   a\n10  b?[31mc"


def test_what_stands_for_nothing_is_nothing_but_for_a_title_which_is_what_somebody_wrote():
    text = "Running:\nJOB  USER  PLACE  TITLE\n17   ann   -      -\n"
    assert read_tables(text) == {"Running:": [{"JOB": "17", "USER": "ann", "PLACE": "", "TITLE": "-"}]}


@pytest.mark.parametrize(("seconds", "text"), [(-3, "0s"), (15.9, "15s"), (60, "1m"), (7200, "2h"), (432000, "5d")])
def test_an_age_is_in_its_largest_unit(seconds, text):
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00d 00:00:00"), (93784, "01d 02:03:04"), (99 * 86400, "99d 00:00:00"), (8640000, "100d")]
)
def test_pit_shows_days_and_a_clock(seconds, text):
    assert pit_since(seconds) == text
