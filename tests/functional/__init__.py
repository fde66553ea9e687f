"""What holds for files, whoever answers: one suite, run against several file systems.

    Posix ─┬─ Local       a directory: of this machine, or of a mount
           └─ InProcess   the handlers of a mount, and everything behind them, without a kernel

The behaviours are functions that take a `Posix`; `test_here.py` runs them without a kernel and in a local directory,
`integration/functional` runs them on a real mount.
"""

import pytest

for _name in ("attributes", "directories", "files", "links", "names", "renames", "xattrs"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
