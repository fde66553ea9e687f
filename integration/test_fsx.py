"""One file in a mount, changed and read at random in every way that there is; see `model.fsx`.

These are short rounds that are the same each time; `script/soak` does long ones.
"""

from pathlib import Path

import pytest

from integration.model.fsx import Exerciser, Wrong
from integration.model.rounds import MOUNTS, bytes_of_a_file
from integration.model.world import world

STEPS = 100


@pytest.mark.parametrize("name", ["fsx", "fsx-behind"])
def test_a_file_holds_what_was_written_to_it(name: str) -> None:
    with world(*MOUNTS[name]) as where:
        for number, size_max in enumerate((20_000, 20_000, 1 << 20, 1 << 20)):
            bytes_of_a_file(where, number, steps=STEPS, size_max=size_max, behind=name == "fsx-behind")


def test_a_wrong_byte_is_found_and_what_was_done_is_told(tmp_path: Path) -> None:
    exerciser = Exerciser(tmp_path / "file", tmp_path / "file", 1, 50_000)
    exerciser.run(100)
    exerciser.put(0, bytes(100), "write")
    exerciser.content[7] = 1
    with pytest.raises(Wrong) as caught:
        exerciser.finish()
    said = str(caught.value)
    assert "seed 1, step 1" in said
    assert "write 100 at 0\n" in said
    assert "1 bytes are wrong, from 7 to 7; all of these are zero: 00 instead of 01" in said
    exerciser.close()
