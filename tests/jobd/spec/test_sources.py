"""Where files come from: image names, paths and addresses, whose grammars are our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.spec.model import Git
from jobd.spec.sources import git, image, mounts, src
from jobd.spec.spec import parse_spec
from jobd.spec.text import Mapping, Scalar, Sequence, SpecError
from jobd.spec.values import Report


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


@pytest.mark.parametrize("text", ["tree:" + "0f" * 32, "tree:a.b_c-d"])
def test_trees_that_clients_shipped(text: str) -> None:
    assert src(scalar(text), Report()) == text


@pytest.mark.parametrize("text", ["tree:", "tree:..", "tree:a/b", "tree: a", "tree:-a", "tree:" + "a" * 129])
def test_what_names_no_tree_is_refused(text: str) -> None:
    report = Report()
    assert src(scalar(text), report) is None
    assert len(report.problems) == 1


@pytest.mark.parametrize(
    "text", ["/", "/pfs", "/pfs/dc1/", "/home/ann/x", "~/x", "~bob", "..", "a/../b", "a//b", "./a"]
)
def test_what_is_no_folder_of_a_datacenter_is_refused(text: str) -> None:
    report = Report()
    assert src(scalar(text), report) is None
    assert len(report.problems) == 1


def repository(url: str, ref: str = "main") -> Mapping:
    return Mapping(1, 1, [(scalar("url"), scalar(url)), (scalar("ref"), scalar(ref))], closed=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.git",
        "http://localhost:8080/a/b/",
        "ssh://git@example.org:2222/~ann/a",
        "git://127.0.0.1/a",
        "git://[::1]:9418/a",
        "file:///srv/a",
        "https://ann:se-cret%40x@example.org/a",
    ],
)
def test_addresses_of_repositories(url: str) -> None:
    report = Report()
    assert git(repository(url), report) == Git(url, "main")
    assert report.problems == []


@pytest.mark.parametrize(
    "url",
    [
        *("", "a", "/srv/a", "-a", "--upload-pack=a", "ext::sh -c a", "ftp://example.org/a", "HTTPS://example.org/a"),
        *("https://", "https:///a", "https://example.org", "https://example.org/", "file://host/a", "file:///"),
        *("https://-a/b", "https://a.-b/c", "https://-a@b/c", "https://a/-b", "https://a/b/-c", "https://a//b"),
        *("https://a/b c", "https://a/b\nc", "https://a:b/c", "https://a b/c", "ssh://a@-b/c", "git@a:-b"),
    ],
)
def test_what_is_no_address_or_could_be_an_option_is_refused(url: str) -> None:
    report = Report()
    assert git(repository(url), report) is None
    assert len(report.problems) == 1


@given(st.text("-ab:/@.[]~%? \n", max_size=30).map("https://".__add__))
def test_no_part_of_an_address_begins_like_an_option(url: str) -> None:
    found = git(repository(url), Report())
    assert found is None or not any(part.startswith("-") for part in found.url.replace("@", "/").split("/"))


@given(st.text("-ab:/@.[]~%?", max_size=40))
def test_addresses_are_judged_quickly_whatever_they_are(text: str) -> None:
    git(repository("https://" + text * 60), Report())


@pytest.mark.parametrize("ref", ["main", "feature/x", "v1.0", "1234567", "0123456789abcdef0123456789abcdef01234567"])
def test_branches_tags_and_commits(ref: str) -> None:
    assert git(repository("https://a/b", ref), Report()) == Git("https://a/b", ref)


@pytest.mark.parametrize(
    "ref", ["-x", "--x", "a b", "a..b", "a~1", "a^", "a:b", "a?", "*", "a[", "a\\b", "a@{1}", "a/", "a.", "a.lock", ""]
)
def test_what_is_no_name_of_a_branch_is_refused(ref: str) -> None:
    report = Report()
    assert git(repository("https://a/b", ref), report) is None
    assert len(report.problems) == 1


@given(st.lists(st.text("ab:/.~ ro", max_size=12), min_size=1, max_size=4))
def test_mounts_are_refused_or_name_a_folder_and_another_place_once(texts: list[str]) -> None:
    report = Report()
    read = mounts(Sequence(1, 1, [scalar(text) for text in texts], closed=True), report)
    targets = [mount.target for mount in read or ()]
    assert report.problems or len(set(targets)) == len(texts)
    assert all(target.startswith("/") and not target.endswith("/") and ".." not in target for target in targets)


@pytest.mark.parametrize(("text", "name"), [("corp", "corp"), ("'2'", "2"), ("Corp-1.x_y", "Corp-1.x_y"), ("''", None)])
def test_a_registry_is_the_name_of_a_secret(text: str, name: str | None) -> None:
    assert parse_spec(f"command: x\nimage: x\nregistry: {text}\n".encode(), "a").registry == name


@pytest.mark.parametrize("text", [".x", "a/b", "'a b'", "[a]", "x" * 64, "-x"])
def test_no_other_text_is_one(text: str) -> None:
    with pytest.raises(SpecError, match=r"^line 2, column 11: .*secret"):
        parse_spec(f"command: x\nregistry: {text}\n".encode(), "a")


@pytest.mark.parametrize(("text", "names"), [("wandb", ("wandb",)), ("[b, a, b]", ("b", "a"))])
def test_secrets_are_named_in_a_list_or_alone(text: str, names: tuple[str, ...]) -> None:
    assert parse_spec(f"command: x\nsecrets: {text}\n".encode(), "a").secrets == names


@pytest.mark.parametrize("text", ["[]", "{a: b}", "[../x]", "[[a]]", str([f"s{n}" for n in range(17)])])
def test_what_names_no_secret_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^line 2, column 1.: .*secret"):
        parse_spec(f"command: x\nsecrets: {text}\n".encode(), "a")
