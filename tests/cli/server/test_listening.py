"""Where the server listens and with which certificate, or the one line that it ends with: all of it, as a table."""

import itertools
from pathlib import Path

import pytest

from cli.server.listening import Asked, Site, certificate_for, is_loopback, where_keys_mislead
from pfs.errors import PfsError
from tests.golden import Step, check

SCRIPT = Path(__file__).with_name("listening.txt")
HOSTS = ("127.0.0.1", "0.0.0.0", "10.1.2.3", "unix:/run/x")
OPTIONS = {"nothing": (False, False), "--tls-cert": (True, False), "--no-tls": (False, True), "both": (True, True)}


def outcome(host: str, options: str, site: Site) -> str:
    certificate, plain = OPTIONS[options]
    try:
        return f"starts, with TLS: {certificate_for(Asked(host, certificate, plain), site)}"
    except PfsError as error:
        return error.message


def test_when_the_server_starts(request: pytest.FixtureRequest) -> None:
    def handler(step: Step) -> str:
        verb, endpoint, authority = step.words
        assert verb == "table"
        lines = []
        for host, options in itertools.product(HOSTS, OPTIONS):
            told = [
                outcome(host, options, Site(endpoint, authority == "own", enterable)) for enterable in (True, False)
            ]
            for who, line in zip(("accounts", "nobody") if told[0] != told[1] else ("either",), told, strict=False):
                lines.append(f"{host:12} {options:11} {who:9} {line}")
        return "\n".join(lines)

    check(SCRIPT, handler, request.config.getoption("rewrite"))


@pytest.mark.parametrize("host", ["", "::", "0.0.0.0", "127.0.0.1.example.org", "::ffff:10.0.0.1", "localhost.", "1"])
def test_what_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_what_only_this_machine_reaches_is(host: str) -> None:
    assert is_loopback(host)


MISLED = {
    ("127.0.0.1", 8470, "https://127.0.0.1:8470", False): "",
    ("127.0.0.1", 0, "https://127.0.0.1:8470", False): "",
    ("127.0.0.1", 8470, "https://dc1:443", False): "",
    ("127.0.0.1", 8470, "https://localhost", True): "",
    ("127.0.0.1", 8470, "https://127.0.0.1:9000", False): (
        "keys say that the server is at https://127.0.0.1:9000, and it listens at port 8470: --port 9000 is theirs"
    ),
    ("0.0.0.0", 9000, "https://127.0.0.1:9000", False): (
        "other machines do not find the server where keys say it is, https://127.0.0.1:9000: "
        "jobd url https://NAME:8470 has new ones say that name"
    ),
}


@pytest.mark.parametrize("case", MISLED)
def test_a_server_tells_where_keys_do_not_lead_to_it(case: tuple[str, int, str, bool]) -> None:
    host, port, endpoint, proxied = case
    assert where_keys_mislead(host, port, endpoint, proxied=proxied) == MISLED[case]
