"""How facts are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.files.facts import flat, moment_text, place_text, ranges, request_text, table, time_text
from jobd.life.model import Process
from jobd.spec.spec import parse_spec


def test_facts_are_one_line_each_and_what_is_none_is_left_out():
    facts = {"id": 17, "title": "two\n\tlines  here ", "node": "", "held": None}
    assert flat(facts) == "id 17\ntitle two lines here\nnode\n"


def test_moments_are_of_utc():
    assert time_text(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"
    assert time_text(None) == ""


def test_moments_of_a_history_are_told_apart():
    assert moment_text(1_700_000_000_000_000_000) == "2023-11-14T22:13:20.000000Z"
    assert moment_text(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"


def test_a_table_can_be_read_by_people_and_programs():
    text = table(["ID", "USER", "TITLE"], [[7, "ann", "a  b\nc"], [12345, "", ""]])
    assert text == "ID     USER  TITLE\n7      ann   a b c\n12345  -     -\n"


cells = st.lists(st.text(), min_size=3, max_size=3)


@given(st.lists(cells, max_size=5))
def test_every_cell_is_found_again(rows):
    text = table(["A", "B", "C"], rows)
    found = [line.split("  ") for line in text.split("\n")[1:-1]]
    read = [[cell.strip(" ") for cell in line if cell.strip(" ")] for line in found]
    assert read == [[" ".join(cell.split()) or "-" for cell in row] for row in rows]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([0, 1], "0-1"), ([4, 0, 1], "0-1,4"), ([1, 3, 5], "1,3,5"), ([7, 6, 5, 1], "1,5-7")],
)
def test_numbers_that_follow_one_another_stand_together(numbers, text):
    assert ranges(numbers) == text


@pytest.mark.parametrize("request_", ["[]", "2:[]", "[2:gtx1070]", "2:[8:gtx1070]", "2:[],4:[gtx1070,2:gtx1060]"])
def test_a_request_is_told_as_it_was_written(request_):
    spec = parse_spec(f'command: x\nresources: "{request_}"\n'.encode(), "a")
    assert request_text(spec) == request_


def test_what_no_cluster_request_can_say_is_told_as_well():
    text = b"command: x\nimage: a\ngroups: [{count: 2, resources: {gpu: 2, cpu: 1, memory: 1GiB}}]\n"
    assert request_text(parse_spec(text, "a")) == "2:[2:GPU,1 CPU,1GiB of memory]"


def test_a_place_names_each_node_once_with_its_gpus():
    names, numbers = {"cm0": "n0", "cm1": "n1"}, {"a": "0", "b": "1", "c": "2", "d": "0.1", "e": "0.0"}
    processes = [Process("cm1"), Process("cm0", ("a", "b")), Process("cm0", ("c",))]
    assert place_text(processes, names, numbers) == "n1[] + n0[cuda 0-2]"
    assert place_text([Process("cm0", ("d", "c", "e"))], names, numbers) == "n0[cuda 2,0.0,0.1]"
    assert place_text([Process("cm9", ("gone",))], names, numbers) == "cm9[]"
    assert place_text([], names, numbers) == ""
