"""The server as it runs: it keeps to its document, takes no damaged message for another, and cuts off lost keys."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from integration.box import Box, box, is_mounted, wait_until
from integration.conformance import conform
from integration.frames import fuzz
from pfs.accounts.keyring import key_name

DAMAGED = 3000
CUT_S = 30.0  # what a lost key let in has gone by then


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        yield made


def test_every_answer_is_one_that_the_document_tells_of_and_none_is_a_defect(made: Box) -> None:
    done = conform(made)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "defect" not in made.log_of("server")


def test_a_damaged_message_is_understood_or_refused_at_either_end(tmp_path: Path) -> None:
    met = trio.run(fuzz, DAMAGED, random.randrange(2**32), tmp_path / "root")
    assert met["understood"] > DAMAGED / 10
    assert met["frames refused"] > DAMAGED / 10


def test_what_a_key_let_in_is_gone_soon_after_it_is_taken_back(made: Box) -> None:
    """A mount, a reader of a log on it, one over HTTP, and a node."""
    made.start_node()
    made.mount()
    log, revoke = made.dc / "jobs/a/log", ("jobd", "user", "revoke", "demo", "--data-root", str(made.data))
    (made.dc / "jobs/a.yaml").write_text("command: echo hello; sleep 600\n")
    headers = {"authorization": f"Bearer {made.token}"}
    with (
        subprocess.Popen(["cat", str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader,
        httpx.Client(base_url=made.url, headers=headers, timeout=60) as web,
        web.stream("GET", "/api/v1/fs/jobs/a/log") as stream,
    ):
        assert reader.stdout is not None
        assert any(line.endswith("hello\n") for line in reader.stdout)
        pieces = stream.iter_bytes()
        assert next(pieces)
        assert made.run(*revoke, key_name(made.token)).returncode == 0
        assert httpx.get(f"{made.url}/api/v1/tokens", headers=headers).status_code == 401
        assert reader.wait(CUT_S) != 0
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert made.sh("ls jobs").returncode != 0
    assert is_mounted(made.mountpoint)
    node = made.processes["n0"]
    assert node.poll() is None
    assert made.run(*revoke, key_name((made.root / "node.key").read_text().strip())).returncode == 0
    wait_until(lambda: node.poll() is not None, CUT_S)
    assert "does not accept" in made.log_of("n0")
