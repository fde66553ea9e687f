"""Bodies of forms: whatever pieces they come in, the same parts and the same bytes; and what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.errors import Kind, PfsError
from pfs.server.multipart import HEAD_BYTES_MAX, Part, Parts, boundary_of, closing, opening

BOUNDARY = "8d7b0e57"
FILE = Part("file", "a b.txt")


def taken(body: bytes, step: int = 1 << 20) -> list[Part | bytes]:
    """Return the parts of a body that comes in pieces of `step` bytes, each with its bytes in one."""
    parts, found = Parts(BOUNDARY.encode()), []
    for start in range(0, len(body), step):
        for each in parts.feed(body[start : start + step]):
            if isinstance(each, bytes) and isinstance(found[-1], bytes):
                found[-1] += each
            else:
                found.append(each)
    assert parts.is_whole
    return found


def body_of(*contents: bytes) -> bytes:
    heads = [opening(BOUNDARY, FILE) + content for content in contents]
    return b"\r\n".join(heads) + closing(BOUNDARY)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_file_comes_out_as_it_went_in_whatever_the_pieces(content: bytes, step: int) -> None:
    assert taken(body_of(content), step) == [FILE, *([content] if content else [])]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_what_looks_like_the_beginning_of_a_boundary_belongs_to_the_file(step: int) -> None:
    content = b"\r\n--8d7b0e5\r\n-\r\n--\r\n\r\n--8d7b0e5"
    assert taken(body_of(content), step) == [FILE, content]


@pytest.mark.parametrize("step", [1, 1000])
def test_several_parts_follow_one_another(step: int) -> None:
    assert taken(body_of(b"one", b"", b"two"), step) == [FILE, b"one", FILE, FILE, b"two"]


@pytest.mark.parametrize("step", [1, 1000])
def test_what_stands_before_the_first_and_behind_the_last_boundary_is_nothing(step: int) -> None:
    assert taken(b"hello\r\n" + body_of(b"x") + b"\r\nbye", step) == [FILE, b"x"]


@pytest.mark.parametrize("step", [1, 1000])
def test_blanks_may_stand_behind_a_boundary(step: int) -> None:
    body = body_of(b"x").replace(b"8d7b0e57\r\n", b"8d7b0e57 \t \r\n")
    assert taken(body, step) == [FILE, b"x"]


def test_every_cut_body_is_told_from_a_whole_one() -> None:
    body = body_of(b"content")
    for size in range(len(body) - len(b"\r\n")):
        parts = Parts(BOUNDARY.encode())
        seen = [*parts.feed(body[:size])]
        assert not parts.is_whole, (size, seen)


def test_a_name_may_be_quoted_and_need_not_be_of_a_file() -> None:
    head = b'--8d7b0e57\r\nX: y\r\ncontent-disposition:form-data; name="a \\"b\\""\r\n\r\nv' + closing(BOUNDARY)
    assert taken(head) == [Part('a "b"'), b"v"]


@pytest.mark.parametrize(
    "body",
    [
        b"--8d7b0e57xyz",
        b"--8d7b0e57\r\n\r\nno head",
        b"--8d7b0e57\r\nContent-Disposition: form-data\r\n\r\n",
        b"--8d7b0e57\r\nContent-Type: text/plain\r\n\r\n",
        b"--8d7b0e57\r\n" + b"x" * (HEAD_BYTES_MAX + 1),
        b"--8d7b0e57" + b" " * (HEAD_BYTES_MAX + 3),
    ],
)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_what_is_no_form_is_refused(body: bytes, step: int) -> None:
    with pytest.raises(PfsError) as refused:
        taken(body, step)
    assert refused.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    "content_type",
    [
        *(
            "",
            "application/json",
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "multipart/form-data; boundary=",
        ),
        *("multipart/form-data; boundary=" + "x" * 71, "multipart/form-data; boundary=ä", "multipart/form-data\n"),
    ],
)
def test_a_body_says_that_it_is_a_form_and_what_parts_it(content_type: str) -> None:
    with pytest.raises(PfsError) as refused:
        boundary_of(content_type)
    assert refused.value.kind is Kind.INVALID


def test_a_boundary_may_be_quoted() -> None:
    assert boundary_of('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"
