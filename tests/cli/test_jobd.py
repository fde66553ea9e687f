"""What `jobd init` makes and tells, and when `jobd serve` does not start."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.config import load
from cli.jobd import DEFAULT_ENDPOINT, jobd
from cli.server.datacenter import make_data_root
from pfs.client.authority import trust
from pfs.errors import Kind, PfsError
from pfs.keys import authority_of_key


def test_how_long_jobs_are_kept_is_a_duration(tmp_path: Path) -> None:
    root = tmp_path / "data"
    make_data_root(str(root))
    said = CliRunner().invoke(jobd, ["serve", "--data-root", str(root), "--keep-jobs", "90"])
    assert said.exit_code == 2
    assert "--keep-jobs: " in said.output
    assert "90" in said.output


# ---- init


def init(root: Path, *words: str) -> Result:
    return CliRunner().invoke(jobd, ["init", "--data-root", str(root), "--admin", "zoe", *words])


def test_a_new_datacenter_tells_what_was_made_in_a_few_lines(tmp_path: Path) -> None:
    told = init(tmp_path / "data", "--client-config", str(tmp_path / "config"), "--node-key", str(tmp_path / "key"))
    assert told.exit_code == 0
    assert len(told.output.splitlines()) <= 4
    assert DEFAULT_ENDPOINT in told.output
    config = load(str(tmp_path / "config")).datacenter
    named = authority_of_key(config.token)
    assert f"sha256:{named}" in told.output
    assert (config.endpoint, authority_of_key((tmp_path / "key").read_text().strip())) == (DEFAULT_ENDPOINT, named)
    found = subprocess.run(["grep", "-rl", "PRIVATE KEY", str(tmp_path)], capture_output=True, text=True, check=False)
    folder = tmp_path / "data/server/tls"
    assert set(found.stdout.splitlines()) == {str(folder / name) for name in ("authority-key.pem", "server.pem")}


def test_people_from_snakepit_trust_the_authority_behind_the_first_line(tmp_path: Path) -> None:
    init(tmp_path / "data", "--pit-config", str(tmp_path / "pit"))
    connect = tmp_path / "pit/.pitconnect.txt"
    endpoint, *lines = connect.read_text().splitlines()
    assert endpoint == DEFAULT_ENDPOINT
    assert "\n".join([*lines, ""]) == (tmp_path / "data/server/tls/authority.pem").read_text()
    context = trust(endpoint, "token", str(connect))
    assert context is not None
    assert len(context.get_ca_certs()) == 1


def test_without_tls_nothing_is_said_of_certificates(tmp_path: Path) -> None:
    words = ("--endpoint", "http://127.0.0.1:8470", "--pit-config", str(tmp_path / "pit"))
    told = init(tmp_path / "data", *words, "--client-config", str(tmp_path / "config"))
    assert "Keys name no certificate." in told.output
    assert (tmp_path / "pit/.pitconnect.txt").read_text() == "http://127.0.0.1:8470\n"
    assert authority_of_key(load(str(tmp_path / "config")).datacenter.token) == ""


@pytest.mark.parametrize("words", [("--endpoint", "dc1"), ("--name", "a b"), ("--endpoint", "https://a b:1")])
def test_what_is_no_address_makes_no_datacenter(tmp_path: Path, words: tuple[str, ...]) -> None:
    refused = init(tmp_path / "data", *words)
    assert isinstance(refused.exception, PfsError)
    assert refused.exception.kind is Kind.INVALID
    assert init(tmp_path / "data").exit_code == 0  # it can be tried again


# ---- serve


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--host", "0.0.0.0", "--no-tls"), "0.0.0.0 can be reached from other machines"),
        (("--tls-cert", "a"), "--tls-cert and --tls-key go together"),
        (("--host", "unix:/x"), "no host and no address"),
        (("--no-tls", "--tls-cert", "a", "--tls-key", "a"), "two different wishes"),
    ],
)
def test_a_server_that_must_not_listen_so_says_why(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    init(tmp_path / "data")
    refused = CliRunner().invoke(jobd, ["serve", "--data-root", str(tmp_path / "data"), "--port", "0", *words])
    assert refused.exit_code != 0
    assert says in (refused.output + str(refused.exception))
