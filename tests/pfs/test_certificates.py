"""The datacenter's own authority: what it makes is believed by TLS as it comes, and only for what it says."""

import contextlib
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from pfs.certificates import (
    AUTHORITY_DAYS,
    RENEW_DAYS,
    SERVER_DAYS,
    Issued,
    check_host,
    is_good_for,
    issue_server,
    issue_user,
    make_authority,
    read_certificate,
)
from pfs.errors import Kind, PfsError

DAY_NS = 24 * 3600 * 10**9
NAMES = ["dc1.example.org", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def now_ns() -> int:
    return time.time_ns()


@pytest.fixture(scope="module")
def authority(now_ns: int) -> Issued:
    return make_authority("pfs authority of dc1", now_ns)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes | None:
    """Let two contexts agree in memory; return the client's certificate, as the server sees it."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname=host)
    far = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return far.getpeercert(binary_form=True)


def contexts(folder: Path, authority: Issued, shown: Issued) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return those of a server with a certificate, and of a client that trusts the authority."""
    (folder / "server.pem").write_bytes(shown.certificate + shown.key)
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    server.load_cert_chain(folder / "server.pem")
    client = ssl.create_default_context(cadata=authority.certificate.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # as newer Pythons do by themselves
    return server, client


@pytest.mark.parametrize("host", NAMES)
def test_a_server_is_believed_by_each_of_its_names(tmp_path: Path, authority: Issued, now_ns: int, host: str) -> None:
    handshake(*contexts(tmp_path, authority, issue_server(authority, NAMES, now_ns)), host)


def test_a_server_is_not_believed_by_other_names_or_of_other_authorities(
    tmp_path: Path, authority: Issued, now_ns: int
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(*contexts(tmp_path, authority, issue_server(authority, NAMES, now_ns)), "dc2.example.org")
    namesake = make_authority("pfs authority of dc1", now_ns)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, issue_server(namesake, NAMES, now_ns)), NAMES[0])


def test_users_are_known_by_their_certificates_and_are_no_servers(
    tmp_path: Path, authority: Issued, now_ns: int
) -> None:
    server, client = contexts(tmp_path, authority, issue_server(authority, NAMES, now_ns))
    server.load_verify_locations(cadata=authority.certificate.decode())
    server.verify_mode = ssl.CERT_OPTIONAL
    ann = issue_user(authority, "ann@example.org", now_ns, 365)
    (tmp_path / "ann.pem").write_bytes(ann.certificate + ann.key)
    assert handshake(server, client, NAMES[0]) is None
    client.load_cert_chain(tmp_path / "ann.pem")
    assert handshake(server, client, NAMES[0]) == read_certificate(ann.certificate).der
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, ann), NAMES[0])


def test_nobody_makes_certificates_with_a_servers(tmp_path: Path, authority: Issued, now_ns: int) -> None:
    server = issue_server(authority, NAMES, now_ns)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(*contexts(tmp_path, authority, issue_server(server, NAMES, now_ns)), NAMES[0])


def test_a_certificate_says_for_whom_and_how_long(authority: Issued, now_ns: int) -> None:
    read = read_certificate(issue_server(authority, NAMES, now_ns).certificate)
    assert read.names == set(NAMES)
    assert abs(read.ends_at_ns - now_ns - SERVER_DAYS * DAY_NS) < DAY_NS
    assert abs(read_certificate(authority.certificate).ends_at_ns - now_ns - AUTHORITY_DAYS * DAY_NS) < DAY_NS
    assert read_certificate(issue_user(authority, "ann", now_ns, 7).certificate).names == set()
    with pytest.raises(PfsError, match="no certificate"):
        read_certificate(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----")


def test_a_certificate_is_renewed_before_its_end_and_for_further_names(authority: Issued, now_ns: int) -> None:
    made = issue_server(authority, NAMES, now_ns).certificate
    assert is_good_for(made, authority.certificate, NAMES[:1], now_ns)
    last_ns = now_ns + (SERVER_DAYS - RENEW_DAYS) * DAY_NS
    assert is_good_for(made, authority.certificate, NAMES, last_ns - 10**9)
    assert not is_good_for(made, authority.certificate, NAMES, last_ns)
    assert not is_good_for(made, authority.certificate, ["dc2"], now_ns)
    assert not is_good_for(made, make_authority("another", now_ns).certificate, NAMES, now_ns)


def test_every_certificate_is_another_one(authority: Issued, now_ns: int) -> None:
    made = [issue_user(authority, "ann", now_ns, 7) for _ in range(2)]
    assert len({x509.load_pem_x509_certificate(each.certificate).serial_number for each in made}) == 2
    assert made[0].key != made[1].key


@pytest.mark.parametrize("name", ["", "a b", "https://dc1", "dc1:8470", "ä", "-x", "a..b", "x" * 300, "*", "a/b"])
def test_what_is_no_host_has_no_certificate(authority: Issued, now_ns: int, name: str) -> None:
    with pytest.raises(PfsError, match="no host") as caught:
        issue_server(authority, [name], now_ns)
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize("name", ["dc1", "DC1.example.org", "10.0.0.1", "fe80::1", "a_b.c", "*.example.org"])
def test_hosts_are_names_and_addresses(name: str) -> None:
    assert check_host(name) == name
