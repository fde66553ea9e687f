"""A defect is told by a number alone, which leads to it in the log."""

import logging
import re

import pytest

from pfs.errors import Kind, PfsError
from pfs.protocol.defects import told_defect


def test_a_defect_is_a_number_to_whoever_asked_and_a_traceback_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[PfsError] = []
    for secret in ("hush", "hush"):
        try:
            raise ValueError(secret)
        except ValueError:
            told.append(told_defect(logging.getLogger("test"), "answering 'open'"))
    numbers = [re.findall(r"number ([0-9a-f]{12}), ", error.message)[0] for error in told]
    assert len(set(numbers)) == 2
    assert {error.kind for error in told} == {Kind.INTERNAL}
    assert "hush" not in "".join(error.message for error in told)
    assert [record.getMessage() for record in caplog.records] == [
        f"defect {number} while answering 'open'" for number in numbers
    ]
    assert all(record.exc_info for record in caplog.records)
