"""How long a log-in with a wrong password takes, for users who exist and for users who do not.

    python -m integration.logins 12      so many of either sort, seven attempts each, in turns

Prints the median and the spread of both, by the clock and in processor time of the server, and how often one of the
first took longer than one of the second: about half where nobody can tell them apart. The throttle is kept out of it:
each attempt comes from an address of its own, and no name is tried often enough to be slowed down.
"""

import http.client
import json
import random
import statistics
import sys
import time
from pathlib import Path

from integration.box import Box, box

ATTEMPTS = 7
PASSWORD = "correct horse battery staple"


def attempt(made: Box, user: str, number: int) -> tuple[float, float]:
    """Try to log in; return how long the refusal took, and how much of that the server computed, in ms."""
    source = (f"127.1.{number >> 8}.{number & 255}", 0)
    connection = http.client.HTTPConnection("127.0.0.1", made.port, timeout=60, source_address=source)
    body = json.dumps({"user": user, "password": "wrong " + PASSWORD, "machine": "x"})
    connection.connect()
    computed_ms, began_s = processor_ms(made), time.perf_counter()
    connection.request("POST", "/api/v1/login", body)
    answer = connection.getresponse()
    answer.read()
    took_ms = (time.perf_counter() - began_s) * 1000
    connection.close()
    assert answer.status == 401, answer.status
    return took_ms, processor_ms(made) - computed_ms


def processor_ms(made: Box) -> float:
    """Return how much the server has computed, all its threads together."""
    tasks = Path(f"/proc/{made.processes['server'].pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e6


def tell(what: str, first: list[float], second: list[float]) -> None:
    """Print how two samples compare."""
    for words, sample in (("users who exist", first), ("users who do not", second)):
        low, median, high = statistics.quantiles(sample, n=4)
        print(f"{what}: {words}: {len(sample)} attempts, median {median:.1f} ms, half {low:.1f} to {high:.1f}")
    longer = sum(one > other for one in first for other in second) / len(first) / len(second)
    print(f"{what}: the first took longer in {longer:.1%} of all pairs")


def main(count: int) -> None:
    """Measure, and print figures."""
    with box() as made:
        names = [f"user{each}" for each in range(count)]
        for name in names:
            made.run("jobd", "adduser", name, "--data-root", str(made.data))
            given = made.run("jobd", "user", "password", name, "--data-root", str(made.data), "--password", PASSWORD)
            assert given.returncode == 0, given.stderr
        made.start_server()
        turns = [*names, *(f"none{each}" for each in range(count))] * ATTEMPTS
        random.shuffle(turns)
        found = [(name in names, *attempt(made, name, number)) for number, name in enumerate(turns)]
        for what, place in (("by the clock", 1), ("computed", 2)):
            tell(what, *([each[place] for each in found if each[0] is known] for known in (True, False)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
