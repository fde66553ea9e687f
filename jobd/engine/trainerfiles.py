"""What programs for PaddleCloud's first API find at the top of a trainer's file system.

    /trainer_id      the trainer's number, as in PADDLE_INIT_TRAINER_ID
    /trainer_count   how many there are when it starts, as in TRAINERS
    /train.list      its share of the `train.list` that the package has, which names what there is to learn from

The shares of all trainers, one after the other, are the list, line by line, and none has more than one line more than
another. A list with fewer lines than there may be trainers fails the job, before any of them has learnt nothing. In a
job whose trainers come and go, a share is that of the moment when the trainer starts. Pure.
"""

import re

from jobd.environment import Facts
from pfs.errors import Kind, PfsError

TRAIN_LIST = "train.list"
LIST_BYTES_MAX = 4 << 20  # with everything else that a node is told of a process it is one message


def is_trainer(facts: Facts) -> bool:
    """Tell whether a process is a trainer of a job that came in by PaddleCloud's fields."""
    return facts.paddle is not None and not facts.group.service


def trainer_files(facts: Facts, train_list: bytes | None) -> dict[str, bytes]:
    """Return a trainer's files by their names.

    Args:
        train_list: what the package has under that name; None where it has nothing.

    Raises:
        PfsError: INVALID where the list has too few lines.
    """
    there = range(len(facts.group.hosts)) if facts.trainers is None else facts.trainers
    files = {"trainer_id": f"{facts.process_index}\n".encode(), "trainer_count": f"{len(there)}\n".encode()}
    if train_list is not None:
        lines = lines_of(train_list)
        if len(lines) < len(facts.group.hosts):
            numbers = (
                f"{TRAIN_LIST} has fewer lines ({len(lines)}) than the job has trainers ({len(facts.group.hosts)})"
            )
            raise PfsError(Kind.INVALID, f"{numbers}; write at least one for each, or ask for fewer trainers")
        files[TRAIN_LIST] = b"".join(share(lines, there.index(facts.process_index), len(there)))
    return files


def lines_of(text: bytes) -> list[bytes]:
    """Return the lines of a text with their ends; the last one may have none."""
    return re.findall(rb"[^\n]*\n|[^\n]+", text)


def share(lines: list[bytes], place: int, count: int) -> list[bytes]:
    """Return the lines of one of `count` trainers, by its place among them."""
    return lines[place * len(lines) // count : (place + 1) * len(lines) // count]
