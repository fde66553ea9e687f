"""What `jobd url` changes of where clients and nodes find the server, and what it says of keys from before."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from cli.jobd import DEFAULT_ENDPOINT, jobd
from cli.server.datacenter import Store
from pfs.certificates import read_certificate
from pfs.keys import authority_of_key, hash_of, url_of_key

FIRST, SECOND = "https://dc1:8470", "https://dc2:8470"
Url = Callable[..., Result]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("authorities")
    for name in ("a", "b"):
        trustme.CA().cert_pem.write_to_path(str(made / name))
    return made / "a", made / "b"


@pytest.fixture
def url(tmp_path: Path, authorities: tuple[Path, Path]) -> Url:
    words = ["--data-root", str(tmp_path / "data")]
    made = CliRunner().invoke(
        jobd, ["init", *words, "--admin", "root", "--endpoint", FIRST, "--tls-ca", str(authorities[0])]
    )
    assert made.exit_code == 0, made.output
    return lambda *more: CliRunner().invoke(jobd, ["url", *words, *map(str, more)])


@pytest.fixture
def store(tmp_path: Path, url: Url) -> Iterator[Store]:
    opened = Store(str(tmp_path / "data"), None, exclusive=False)
    yield opened
    opened.close()


def digest(authority: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority.read_text())).hexdigest()


def where(store: Store) -> tuple[str, str]:
    key, _ = store.add_node_key(None)
    return url_of_key(key), authority_of_key(key)


def test_it_prints_what_keys_say_and_changes_nothing(url: Url, store: Store, authorities: tuple[Path, Path]) -> None:
    told = url()
    assert (told.stdout, told.stderr) == (f"{FIRST}#sha256:{digest(authorities[0])}\n", "")
    assert where(store) == (FIRST, digest(authorities[0]))


def test_a_host_that_moves_keeps_its_certificate(url: Url, store: Store, authorities: tuple[Path, Path]) -> None:
    told = url(SECOND)
    assert told.exit_code == 0
    assert f"Keys made before name {FIRST}: give nodes --apiHost {SECOND}" in told.stderr
    assert where(store) == (SECOND, digest(authorities[0]))


def test_keys_trust_no_certificate_but_that_which_they_name(
    url: Url, store: Store, authorities: tuple[Path, Path]
) -> None:
    told = url("--tls-ca", authorities[1])
    assert "trust the certificate that they name, and no other: make new ones" in told.stderr
    assert where(store) == (FIRST, digest(authorities[1]))
    assert "make new ones" in url("--tls-ca", "none").stderr
    assert where(store) == (FIRST, "")
    assert "they trust the authorities of each machine" in url("--tls-ca", authorities[0]).stderr


def test_without_tls_there_is_no_certificate(url: Url, store: Store, authorities: tuple[Path, Path]) -> None:
    refused = url("http://127.0.0.1:8470", "--tls-ca", authorities[1])
    assert (refused.exit_code, "without TLS" in refused.output) == (2, True)
    assert where(store) == (FIRST, digest(authorities[0]))
    assert url("http://127.0.0.1:8470").exit_code == 0
    assert where(store) == ("http://127.0.0.1:8470", "")


@pytest.mark.parametrize("words", [["dc2:8470"], ["--tls-ca", "/dev/null"]])
def test_a_mistake_changes_nothing(url: Url, store: Store, words: list[str]) -> None:
    before = where(store)
    assert url(*words).exit_code != 0
    assert where(store) == before


# ---- the datacenter's own authority


@pytest.fixture
def own_url(tmp_path: Path) -> Url:
    """The datacenter as `jobd init` makes it, for loopback."""
    words = ["--data-root", str(tmp_path / "data")]
    made = CliRunner().invoke(jobd, ["init", *words, "--admin", "root", "--name", "dc1.lan"])
    assert made.exit_code == 0, made.output
    return lambda *more: CliRunner().invoke(jobd, ["url", *words, *map(str, more)])


@pytest.fixture
def own(tmp_path: Path, own_url: Url) -> Iterator[Store]:
    opened = Store(str(tmp_path / "data"), None, exclusive=False)
    yield opened
    opened.close()


def own_digest(store: Store) -> str:
    return hash_of(read_certificate(store.authority.certificate()).der)


def certified(store: Store) -> frozenset[str]:
    return read_certificate(Path(store.authority.server_file).read_bytes()).names


def test_a_new_datacenter_has_an_authority_of_its_own(own: Store) -> None:
    assert where(own) == (DEFAULT_ENDPOINT, own_digest(own))
    assert {"127.0.0.1", "localhost", "dc1.lan"} <= certified(own)


def test_a_datacenter_that_moves_has_a_certificate_for_where_it_is(own_url: Url, own: Store) -> None:
    told = own_url("https://dc1.example.org:8470", "--name", "10.0.0.1")
    assert "give nodes --apiHost https://dc1.example.org:8470" in told.stderr
    assert where(own) == ("https://dc1.example.org:8470", own_digest(own))
    assert {"dc1.example.org", "10.0.0.1", "dc1.lan"} <= certified(own)


def test_a_name_alone_changes_the_certificate_alone(own_url: Url, own: Store) -> None:
    before = where(own)
    told = own_url("--name", "dc1.example.org")
    assert (told.exit_code, told.stderr) == (0, "")
    assert where(own) == before
    assert "dc1.example.org" in certified(own)
    refused = own_url("--name", "a b")
    assert "no host" in str(refused.exception)


def test_without_tls_first_and_with_it_later(own_url: Url, own: Store) -> None:
    own_url("http://127.0.0.1:8470")
    assert where(own) == ("http://127.0.0.1:8470", "")
    own_url("https://dc1.example.org")
    assert where(own) == ("https://dc1.example.org", own_digest(own))


def test_other_authorities_come_and_go(own_url: Url, own: Store, authorities: tuple[Path, Path]) -> None:
    own_url("--tls-ca", authorities[0])
    assert where(own)[1] == digest(authorities[0])
    assert "--name is for its certificates alone" in own_url("--name", "dc2").stderr
    own_url("--tls-ca", "none")
    assert where(own)[1] == ""
    own_url("--tls-ca", "own")
    assert where(own) == (DEFAULT_ENDPOINT, own_digest(own))
