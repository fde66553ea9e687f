"""Batches of small files: they grow with who goes on, and shrink with who does not."""

from fuseclient.cache.batches import AHEAD_LEAST, BATCH_MAX, MARKS_MAX, READ_SHARE, Batches, Place

PLACE = Place("d", "last")


def nodes(count: int, first: int = 1000) -> list[int]:
    return list(range(first, first + count))


def test_each_batch_of_a_directory_is_twice_as_large_as_the_one_before() -> None:
    batches = Batches()
    assert [batches.size(1, asked) for asked in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, BATCH_MAX, BATCH_MAX]


def test_the_next_directory_begins_with_as_many_for_who_has_read_a_part_of_the_last() -> None:
    batches = Batches()
    for asked in range(6):
        size = batches.size(1, asked)
    batches.give(PLACE, nodes(size))
    assert batches.size(2, 5 + size // READ_SHARE) == size


def test_who_has_left_most_unread_is_given_less() -> None:
    batches = Batches()
    for asked in range(6):
        size = batches.size(1, asked)
    batches.give(PLACE, nodes(size))
    assert batches.size(2, 5 + size // READ_SHARE - 1) == size // 4


def test_the_smallest_batch_is_one_file() -> None:
    batches = Batches()
    for directory in range(10):
        batches.give(PLACE, nodes(50))
        assert batches.size(directory, 0) == 1


def test_more_is_fetched_once_a_quarter_is_read() -> None:
    batches, given = Batches(), nodes(20)
    batches.give(PLACE, given)
    assert [node for node in given if batches.read(node) == PLACE] == [given[20 // READ_SHARE]]
    assert [batches.read(node) for node in given] == [None] * 20, "once"


def test_what_comes_after_a_few_files_is_not_fetched_ahead() -> None:
    batches = Batches()
    batches.give(PLACE, nodes(AHEAD_LEAST - 1))
    assert not any(batches.read(node) for node in nodes(AHEAD_LEAST))


def test_only_so_many_programs_are_remembered() -> None:
    batches = Batches()
    for number in range(MARKS_MAX + 1):
        batches.give(PLACE, nodes(8, 100 * number))
    assert batches.read(8 // READ_SHARE) is None
    assert batches.read(100 * MARKS_MAX + 8 // READ_SHARE) == PLACE


def test_what_is_forgotten_begins_anew() -> None:
    batches = Batches()
    for asked in range(4):
        batches.size(1, asked)
    batches.give(PLACE, nodes(8))
    batches.forget()
    assert batches.read(nodes(8)[2]) is None
