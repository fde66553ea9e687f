"""What a trainer of PaddleCloud's finds at the top of its file system, and how a list is divided over trainers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.engine.trainerfiles import is_trainer, lines_of, share, trainer_files
from jobd.environment import Facts, GroupHosts, environment
from jobd.spec.model import Paddle
from pfs.errors import Kind, PfsError

FIELDS = {"entry": "python train.py", "topology": "", "cpu": "1", "gpu": "0", "passes": "1"}
GROUPS = (GroupHosts("trainer", ("t0", "t1", "t2")), GroupHosts("pserver", ("p0",), service=True))
TRAINER = Facts("dc1", "ann", 17, "emb", 1, GROUPS, 0, 1, paddle=Paddle(None, FIELDS))


@given(st.binary(max_size=40).map(lambda text: text.replace(b"x", b"\n")), st.integers(1, 9))
def test_shares_one_after_the_other_are_the_list_and_as_long_as_one_another(text: bytes, count: int) -> None:
    lines = lines_of(text)
    shares = [share(lines, place, count) for place in range(count)]
    assert b"".join(line for each in shares for line in each) == text
    assert sum(map(len, shares)) == len(lines)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.binary(max_size=40).map(lambda text: text.replace(b"x", b"\n")))
def test_lines_end_where_a_line_feed_is_and_nowhere_else(text: bytes) -> None:
    lines = lines_of(text)
    assert all(line.index(b"\n") == len(line) - 1 for line in lines[:-1])
    assert len(lines) == text.count(b"\n") + (text != b"" and not text.endswith(b"\n"))


def test_a_trainer_has_its_number_and_how_many_there_are_as_its_variables_say() -> None:
    values = environment(TRAINER)
    assert trainer_files(TRAINER, None) == {
        "trainer_id": f"{values['PADDLE_INIT_TRAINER_ID']}\n".encode(),
        "trainer_count": f"{values['TRAINERS']}\n".encode(),
    }
    assert (values["PADDLE_INIT_TRAINER_ID"], values["TRAINERS"]) == ("1", "3")


def test_each_trainer_has_its_own_lines_of_the_list() -> None:
    lists = [
        trainer_files(replace(TRAINER, process_index=place), b"a\nb\r\nc\nd\ne")["train.list"] for place in (0, 1, 2)
    ]
    assert lists == [b"a\n", b"b\r\nc\n", b"d\ne"]


def test_where_trainers_come_and_go_a_share_is_that_among_those_that_are_there() -> None:
    there = replace(TRAINER, trainers=(0, 2))
    files = [trainer_files(replace(there, process_index=place), b"a\nb\nc\nd\n") for place in (0, 2)]
    assert [each["train.list"] for each in files] == [b"a\nb\n", b"c\nd\n"]
    assert [(each["trainer_id"], each["trainer_count"]) for each in files] == [(b"0\n", b"2\n"), (b"2\n", b"2\n")]


@pytest.mark.parametrize(("text", "number"), [(b"", 0), (b"a\nb\n", 2), (b"a\nb", 2)])
@pytest.mark.parametrize("there", [None, (1,)])
def test_a_list_with_fewer_lines_than_there_may_be_trainers_is_refused(
    text: bytes, number: int, there: tuple[int, ...] | None
) -> None:
    with pytest.raises(
        PfsError, match=rf"^train\.list has fewer lines \({number}\) than .* trainers \(3\); "
    ) as caught:
        trainer_files(replace(TRAINER, trainers=there), text)
    assert caught.value.kind is Kind.INVALID


def test_only_trainers_of_paddleclouds_jobs_are_trainers() -> None:
    assert is_trainer(TRAINER)
    assert not is_trainer(replace(TRAINER, group_index=1, process_index=0))
    assert not is_trainer(replace(TRAINER, paddle=None))
