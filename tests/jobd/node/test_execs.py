"""What an engine says of a program that it could not begin, in words for whoever asked."""

import pytest

from jobd.node.execs import refused
from pfs.errors import Kind

SAID = "OCI runtime exec failed: exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        (f'{SAID}exec: "it": executable file not found in $PATH: unknown\r\n', Kind.NOT_FOUND, "no such program: it"),
        (f'{SAID}exec: "it": stat it: no such file or directory: unknown\r\n', Kind.NOT_FOUND, "no such program: it"),
        (f'{SAID}exec: "it": permission denied: unknown\r\n', Kind.DENIED, "it cannot be run here: permission denied"),
        ("cannot exec in a paused container", Kind.DENIED, "it cannot be run here: cannot exec in a paused container"),
    ],
)
def test_why_a_program_was_not_begun_is_told(words: str, kind: Kind, text: str) -> None:
    error = refused("it", words)
    assert (error.kind, error.message) == (kind, text)
