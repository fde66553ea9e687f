"""A program as somebody types it: its status, and what it writes where."""

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest


def typed(main: Callable[[], object], *words: str) -> tuple[int, str, str]:
    """Run a program by its name and arguments; return its status, and what it writes to stdout and stderr."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(words))
        with pytest.raises(SystemExit) as ended:
            main()
    out.seek(0)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.read(), err.getvalue()
