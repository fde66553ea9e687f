"""Keys of jobs prove one attempt of one job to the server that made them, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from jobd.engine.jobkeys import job_key, proven_by
from pfs.keys import url_of_key

SECRET, OTHER = "ab" * 32, "cd" * 32
URL = "https://dc1.example.org:8470"
NUMBERS = st.integers(1, 10**9 - 1)


@given(NUMBERS, NUMBERS)
def test_a_key_proves_its_job_and_attempt_and_leads_to_its_server(job_id: int, attempt: int) -> None:
    key = job_key(URL, SECRET, job_id, attempt)
    assert proven_by(key, SECRET) == (job_id, attempt)
    assert url_of_key(key) == URL


def test_the_same_attempt_has_the_same_key_each_time() -> None:
    assert job_key(URL, SECRET, 17, 2) == job_key(URL, SECRET, 17, 2)


def test_a_key_of_another_server_proves_nothing() -> None:
    assert proven_by(job_key(URL, OTHER, 17, 2), SECRET) is None


@given(NUMBERS, NUMBERS, st.data())
def test_a_key_that_was_changed_anywhere_proves_nothing(job_id: int, attempt: int, data: st.DataObject) -> None:
    secret = job_key(URL, SECRET, job_id, attempt).rpartition(".")[2]
    place = data.draw(st.integers(0, len(secret) - 1))
    letter = data.draw(st.sampled_from("0123456789abcdefg-").filter(lambda each: each != secret[place]))
    changed = secret[:place] + letter + secret[place + 1 :]
    assert proven_by(f"pfs1.x.{changed}", SECRET) is None


@given(st.text("job-0123456789abcdef.", max_size=90))
def test_any_other_text_proves_nothing(text: str) -> None:
    assert proven_by(text, SECRET) is None
