"""Credentials for registries: what a secret says, and that nothing of it is repeated."""

import pytest

from jobd.engine.credentials import credential_for, parse_credential
from jobd.wire import Credential
from pfs.errors import PfsError

CORP = Credential("registry.example.org:5000", "ann", "pa ss#w:ord")


@pytest.mark.parametrize(
    "text",
    [
        b"server: registry.example.org:5000\nusername: ann\npassword: pa ss#w:ord\n",
        b"server: https://Registry.example.org:5000/v2/\nusername: ann\npassword: 'pa ss#w:ord'\n",
        b'{"server": "registry.example.org:5000", "username": "ann", "password": "pa ss#w:ord"}',
    ],
)
def test_a_credential_is_three_lines(text: bytes) -> None:
    assert parse_credential("corp", text) == CORP


def test_a_password_that_looks_like_a_number_stays_as_it_is() -> None:
    assert parse_credential("corp", b"server: r.io\nusername: 017\npassword: 0x10\n") == Credential(
        "r.io", "017", "0x10"
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"canary",
        b"- canary\n",
        b"server: r.io\nusername: canary\n",
        b"server: r.io\nusername: canary\npassword:\n",
        b"server: r.io\nusername: canary\npassword: canary\ncanary: 1\n",
        b"server: r.io\nusername: canary\npassword: [canary]\n",
        b"server: r.io\nserver: canary\nusername: a\npassword: b\n",
        b"server: r.io\n\tpassword: 'canary\n",
        b"canary \xff\xfe",
        b"server: r.io\nusername: a\npassword: canary: canary\n",
    ],
)
def test_anything_else_is_refused_and_none_of_it_is_said(text: bytes) -> None:
    with pytest.raises(PfsError) as raised:
        parse_credential("corp", text)
    assert str(raised.value).startswith("registry: the secret corp is no credential; write three lines into it")
    assert "canary" not in str(raised.value)


def test_the_password_is_in_no_words_about_a_credential() -> None:
    assert "pa ss" not in repr(CORP) + str(CORP)


def test_a_credential_is_for_its_own_registry() -> None:
    assert credential_for("registry.example.org:5000/team/x:1", CORP) == CORP
    assert credential_for("registry.example.org/team/x:1", CORP) is None
    assert credential_for(None, CORP) is None
    docker = Credential("docker.io", "ann", "x")
    assert credential_for("busybox", docker) == docker
