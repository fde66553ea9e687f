"""The one error type: what a person reads of it."""

from pfs.errors import Kind, PfsError


def test_an_error_names_its_path() -> None:
    assert str(PfsError(Kind.NOT_FOUND, "no such file", "home/ann/x")) == "home/ann/x: no such file"


def test_an_error_without_a_path_is_its_sentence() -> None:
    assert str(PfsError(Kind.BUSY, "another jobd serves this")) == "another jobd serves this"


def test_an_error_without_a_sentence_is_its_kind() -> None:
    assert str(PfsError(Kind.NOT_EMPTY)) == "not-empty"
