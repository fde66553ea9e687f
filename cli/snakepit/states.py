"""Snakepit's three letters for the states of jobs, and the groups that its reports make of them."""

LETTERS = {
    "PENDING": "NEW",
    "PREPARING": "PRE",
    "WAITING": "WAI",
    "STARTING": "STA",
    "RUNNING": "RUN",
    "STOPPING": "STO",
}
DONE = "FIN"
RUNNING = ("STA", "RUN", "STO")
WAITING = ("WAI", "PRE", "NEW")
ORDER = (*LETTERS.values(), DONE)


def letters_of(state: str) -> str:
    """Return Snakepit's letters for the state of a job."""
    return LETTERS.get(state, DONE)
