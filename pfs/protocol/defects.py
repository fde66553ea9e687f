"""How a defect is told: to whoever asked as a number and nothing else, with the same number to the server's log."""

import logging
import secrets

from pfs.errors import Kind, PfsError

NUMBER_BYTES = 6


def told_defect(log: logging.Logger, doing: str) -> PfsError:
    """Log the exception that is being handled; return what is told of it.

    Args:
        doing: what failed, for the log.
    """
    number = secrets.token_hex(NUMBER_BYTES)
    log.exception("defect %s while %s", number, doing, extra={"request": number})
    return PfsError(Kind.INTERNAL, f"a defect of the server; tell its administrator the number {number}, for its log")
