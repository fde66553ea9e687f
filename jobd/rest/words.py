"""Words of PaddleCloud for what is known here otherwise: namespaces of users, and ends that only have a number."""

import re
import signal

SIGNALLED = 128  # exit codes above are this and the number of a signal


def namespace_of(user: str) -> str:
    """Return the namespace of a user, as Kubernetes lets it be called."""
    return re.sub(r"[^a-z0-9-]", "-", user)


def meaning_of(code: int | None) -> str:
    """Return what an exit code means, in words; "" where there is nothing to tell."""
    if not code:
        return ""
    try:
        number = signal.Signals(code - SIGNALLED)
    except ValueError:
        return f"it ended with {code}"
    return f"it was ended by {number.name}: {signal.strsignal(number)}"
