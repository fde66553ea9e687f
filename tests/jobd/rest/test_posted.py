"""What clients of PaddleCloud post, and the spec that it is: by the parser that reads every spec."""

import pytest

from jobd.rest.posted import check_gpus, spec_of
from jobd.spec.model import JobSpec
from jobd.spec.spec import SpecError, parse_spec
from pfs.errors import Kind, PfsError

# all that the shipped client sends, as it sends it where nothing is said but an entry
SHIPPED = {
    "name": "job-word-emb",
    "jobPackage": "./job_word_emb",
    "parallelism": 1,
    "cpu": 1,
    "gpu": 0,
    "memory": "1Gi",
    "pservers": 0,
    "pscpu": 1,
    "psmemory": "1Gi",
    "entry": "python train.py",
    "topology": "",
    "datacenter": "dc1",
    "passes": 1,
    "image": "",
    "registry": "",
    "faulttolerant": False,
    "maxInstance": 1,
    "minInstance": 1,
}
# the example of the design
DESIGNED = {
    "name": "paddle-job",
    "job_package": "/pfs/dc1/home/ann/job_word_emb",
    "parallelism": 3,
    "cpu": 1,
    "gpu": 1,
    "memory": "1Gi",
    "pservers": 3,
    "pscpu": 1,
    "psmemory": "1Gi",
    "topology": "train.py",
}


def spec(said: dict, stem: str = "file") -> JobSpec:
    return parse_spec(spec_of(said, "ann", "dc1").text, stem)


def refused(said: dict) -> PfsError:
    with pytest.raises(PfsError) as caught:
        spec_of(said, "ann", "dc1")
    return caught.value


def test_what_the_shipped_client_sends_is_a_job() -> None:
    found = spec(SHIPPED)
    trainers, servers = found.groups
    assert (found.name, trainers.count, servers.count, servers.service) == ("job-word-emb", 1, 1, True)
    assert trainers.argv == ("sh", "-c", "python train.py")
    assert (trainers.cpus, trainers.memory_bytes, trainers.gpus, trainers.image) == (1.0, 1 << 30, (), None)
    assert found.paddle is not None
    assert found.paddle.fields["min_instance"] == "1"


def test_what_the_design_says_is_a_job() -> None:
    found = spec(DESIGNED)
    assert [group.count for group in found.groups] == [3, 3]
    assert found.groups[0].gpus == ((1, None),)
    assert found.paddle is not None
    assert (found.paddle.package, found.paddle.fields["topology"]) == ("/pfs/dc1/home/ann/job_word_emb", "train.py")


@pytest.mark.parametrize("name", ["job_package", "jobPackage"])
@pytest.mark.parametrize("said", ["./job_word_emb", "/home/somebody/job_word_emb", "job_word_emb", ""])
def test_a_folder_of_their_own_machine_stands_where_they_have_just_uploaded_it(name: str, said: str) -> None:
    posted = spec_of({"name": "x", "entry": "e", name: said}, "ann", "dc1")
    found = parse_spec(posted.text, "file")
    assert found.paddle is not None
    assert posted.package == found.paddle.package == "/pfs/dc1/home/ann/jobs/x"


def test_a_job_with_files_from_elsewhere_has_no_package() -> None:
    assert spec_of({"entry": "e", "src": "digits"}, "ann", "dc1").package == ""
    assert spec({"entry": "e", "src": "digits", "parallelism": 1}).src == "digits"


def test_a_job_in_the_words_of_every_other_may_be_posted_too() -> None:
    posted = spec_of({"name": "x", "command": "true", "resources": "[]"}, "ann", "dc1")
    found = parse_spec(posted.text, "file")
    assert (posted.package, found.paddle, found.groups[0].argv) == ("", None, ("sh", "-c", "true"))


def test_a_job_without_a_name_has_that_of_all_such_jobs() -> None:
    posted = spec_of({"entry": "e"}, "ann", "dc1")
    assert (posted.name, parse_spec(posted.text, "file").name) == ("paddle-cluster-job", "paddle-cluster-job")


def test_all_that_specs_have_may_be_said_beside() -> None:
    found = spec(DESIGNED | {"max_duration": "2h", "env": {"LR": "0.1"}})
    assert (found.max_duration_s, found.groups[0].env) == (7200, {"LR": "0.1"})


@pytest.mark.parametrize("field", ["entry", "topology"])
def test_without_topology_and_entry_there_is_no_job(field: str) -> None:
    assert refused({"name": "x", field: ""}).message == "no topology or entry specified"
    assert refused({"name": "x", field: None}).kind is Kind.INVALID


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"datacenter": "dc2"}, "no datacenter dc2; this is dc1"),
        ({"datacenter": 7}, "no datacenter 7"),
        ({"name": "a/b"}, "'a/b' is no name"),
        ({"name": "17"}, "only digits"),
        ({"name": ["x"]}, "is no name"),
    ],
)
def test_what_is_wrong_before_it_is_a_spec_is_told(more: dict, words: str) -> None:
    error = refused(DESIGNED | more)
    assert error.kind is Kind.INVALID
    assert words in error.message


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"parallelism": 0}, "parallelism: expected a whole number from 1"),
        ({"memory": "1Q", "cpu": {}}, "cpu: expected a number of CPUs"),
        ({"memory": "1Q", "cpu": {}}, "\nmemory: '1Q' is no size"),
        ({"memroy": "1Gi"}, "memroy: "),
        ({"jobPackage": "/pfs/dc1/home/ann/other"}, "jobPackage: job_package and jobPackage both say"),
        ({"max_instance": 1, "min_instance": 2}, "min_instance: min_instance is more than max_instance"),
        ({"entry": ["x"], "topology": ""}, "entry: expected text"),
        ({"env": {"A B": "x\ny"}}, "env: "),
        ({"resources": "[]"}, "resources does not go with PaddleCloud's fields"),
    ],
)
def test_what_is_wrong_with_a_field_the_parser_of_specs_tells_and_which_it_is(more: dict, words: str) -> None:
    posted = spec_of(DESIGNED | more, "ann", "dc1")
    with pytest.raises(SpecError) as caught:
        parse_spec(posted.text, "file")
    told = posted.plainly(caught.value.message)
    assert words in told
    assert "line" not in told


def test_what_is_wrong_with_all_of_it_has_no_field() -> None:
    posted = spec_of(DESIGNED, "ann", "dc1")
    assert posted.plainly("line 1, column 1: it is empty") == "it is empty"
    assert posted.plainly(f"line {len(posted.fields) + 2}, column 1: x") == "x"
    assert posted.plainly("the queue is full at line 2, column 1: x") == "the queue is full at line 2, column 1: x"


@pytest.mark.parametrize(("limit", "asked"), [(None, 1000), (4, 4), (0, 0)])
def test_gpus_within_the_limit_are_taken(limit: int | None, asked: int) -> None:
    check_gpus(asked, 3, limit)


def test_gpus_above_the_limit_are_refused_in_the_words_that_clients_know() -> None:
    with pytest.raises(PfsError) as caught:
        check_gpus(3, 1, 2)
    assert caught.value.kind is Kind.QUOTA
    assert caught.value.message == "You don't have enought GPU quota,request: 3, usage: 1, limit: 2"
