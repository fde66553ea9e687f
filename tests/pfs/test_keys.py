"""Addresses, keys and tokens: what they look like, where they lead, and what is kept of them."""

import hashlib

import pytest

from pfs.errors import Kind, PfsError
from pfs.keys import Address, address_of, authority_of_key, bearer, fingerprint, make_key, url_of_key, where_of


@pytest.mark.parametrize("url", ["http://h:1", "https://head.example:8470", "http://[::1]:80/x", "http://höst"])
def test_a_key_knows_its_server(url: str) -> None:
    key = make_key(url, "s3cret-_")
    assert key.startswith("pfs1.")
    assert "=" not in key
    assert url_of_key(key) == url


def test_a_key_names_the_certificate_that_vouches_for_its_server() -> None:
    key = make_key(where_of("https://h:1", b"the certificate"), "x")
    assert url_of_key(key) == "https://h:1"
    assert authority_of_key(key) == hashlib.sha256(b"the certificate").hexdigest()
    for other in (make_key(where_of("https://h:1", None), "x"), make_key("http://h/#sha256:1", "x"), "ann-token", ""):
        assert authority_of_key(other) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pfs1",
        "pfs1..",
        "pfs2.aHR0cA.x",
        "pfs1.aHR0cA.",
        "pfs1.aHR0cA",
        "pfs1.a$.x",
        "pfs1.a.x",
        "pfs1.gA.x",
        "a.b.c.d",
        "ä",
    ],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(PfsError, match="no API key") as caught:
        url_of_key(text)
    assert caught.value.kind is Kind.UNAUTHENTICATED


def test_a_fingerprint_is_of_the_whole_key() -> None:
    one, other = make_key("http://a", "x"), make_key("http://b", "x")
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(one)
    assert len(fingerprint(one)) == 64
    assert one not in fingerprint(one)


def test_a_token_is_shown_in_a_header() -> None:
    assert bearer("pfs1.aHR0cA.s3cret-_") == "Bearer pfs1.aHR0cA.s3cret-_"


@pytest.mark.parametrize("token", ["", "two words", "line\n", "line\r\nhost: x", "tokën", "\x7f"])
def test_what_cannot_be_a_token_is_never_sent(token: str) -> None:
    with pytest.raises(PfsError) as caught:
        bearer(token)
    assert caught.value.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://h", Address("h", 80, False)),
        ("https://h", Address("h", 443, True)),
        ("https://h.example:8470/x", Address("h.example", 8470, True)),
        ("http://[::1]:8470", Address("::1", 8470, False)),
    ],
)
def test_where_a_server_is(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url", ["", "h", "h:80", "ftp://h", "http://", "https:///x", "http://[::1", "http://h:x", "http://h:65536"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(PfsError, match="no server's address") as caught:
        address_of(url)
    assert caught.value.kind is Kind.INVALID
