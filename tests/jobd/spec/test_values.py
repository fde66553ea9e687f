"""Single values of a spec: image names and paths, whose grammars are our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.spec.text import Scalar
from jobd.spec.values import Report, image, name_problem, src


def scalar(text: str) -> Scalar:
    return Scalar(text, False, 1, 1)


DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "text",
    [
        "python",
        "python:3.11-slim",
        "python@" + DIGEST,
        "python:3.11@" + DIGEST,
        "library/python",
        "a/b/c/d:e",
        "a.b_c__d-e--f",
        "localhost/a",
        "localhost:5000/a",
        "registry.example.com/a",
        "Registry.Example.com:443/a:B_c.d-e",
        "127.0.0.1:5000/a",
        "[::1]:5000/a",
        "a:" + "t" * 128,
        "0",
    ],
)
def test_proper_images(text: str) -> None:
    report = Report()
    assert image(scalar(text), report) == text
    assert report.problems == []


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("Python", "lower case, such as python"),
        ("python:3.11 ", "remove the white space"),
        ("docker://python", "write it without docker://"),
        ("python:", "write it like"),
        ("python:-x", "write it like"),
        ("python@sha256:abc", "write it like"),
        ("/python", "write it like"),
        ("a//b", "write it like"),
        ("a..b", "write it like"),
        ("a___b", "write it like"),
        ("-a", "write it like"),
        ("a:b:c", "write it like"),
        ("a:" + "t" * 129, "write it like"),
        ("a" * 256, "write it like"),
        ("a/" * 1000, "write it like"),
        ("a;rm -rf", "remove the white space"),
        ("$(ls)", "write it like"),
        ("pythön", "write it like"),
    ],
)
def test_malformed_images_are_refused_with_a_cure(text: str, cure: str) -> None:
    report = Report()
    assert image(scalar(text), report) is None
    assert cure in report.problems[0].message


@given(st.text("aA.-_/:@0[]", max_size=40))
def test_images_are_judged_quickly_whatever_they_are(text: str) -> None:
    image(scalar(text * 20), Report())


@pytest.mark.parametrize(
    ("text", "folder"),
    [("digits", "digits"), ("a/b/", "a/b"), ("/pfs/dc1/home/ann", "/pfs/dc1/home/ann"), ("a b", "a b")],
)
def test_folders(text: str, folder: str) -> None:
    assert src(scalar(text), Report()) == folder


@pytest.mark.parametrize(
    "text", ["/", "/pfs", "/pfs/dc1/", "/home/ann/x", "~/x", "~bob", "..", "a/../b", "a//b", "./a"]
)
def test_what_is_no_folder_of_a_datacenter_is_refused(text: str) -> None:
    report = Report()
    assert src(scalar(text), report) is None
    assert len(report.problems) == 1


@pytest.mark.parametrize("name", ["a", "A", "0a", "a.b_c-d", "x" * 63, "by", "byte-1"])
def test_names(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["", "17", "by-state", "-a", ".a", "_a", "a b", "a/b", "x" * 64, "é", "a\n"])
def test_refused_names(name: str) -> None:
    assert name_problem(name)
