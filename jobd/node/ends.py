"""How a task ended, in words for its owner."""

import signal

from jobd.node.runtime import Exit
from jobd.wire import OUT_OF_MEMORY

# git and others end so when they are not understood, and nobody sends it to a job
_NOT_TOLD = (signal.SIGHUP,)
_SIGNALS = {128 + number: number.name for number in signal.Signals if number not in _NOT_TOLD}
_SHELL = {126: "a program could not be executed", 127: "a program was not found"}


def exit_of(code: int, words: str = "", *, out_of_memory: bool = False) -> Exit:
    """Return the exit with what its code says, by the conventions of shells.

    Args:
        words: what is known besides; they count more.
        out_of_memory: the kernel ended one of the task's processes for want of memory.
    """
    if out_of_memory and code != 0:
        return Exit(code, OUT_OF_MEMORY)
    if words:
        return Exit(code, words)
    if code in _SIGNALS:
        return Exit(code, f"killed by {_SIGNALS[code]}")
    return Exit(code, _SHELL.get(code, ""))
