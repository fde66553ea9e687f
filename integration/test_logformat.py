"""The logs of server and node for programs that collect them: every line is an object, whatever the daemons tell."""

import json
import re

import pytest

from integration.box import Box, box, wait_until

FORGED = 'lab", "level": "ERROR'


@pytest.fixture(scope="module")
def b():
    with box() as made:
        yield made


def records(box: Box, name: str) -> list[dict[str, str]]:
    found = [json.loads(line) for line in box.log_of(name).splitlines()]
    assert found
    for each in found:
        assert (
            {"time", "level", "logger", "message"}
            <= set(each)
            <= {*("time", "level", "logger", "message", "request", "exception")}
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])
    return found


def test_what_server_and_node_tell_is_an_object_on_each_line(b: Box) -> None:
    b.start_server("--log-format", "json", "--debug")
    b.start_node("n0", "unix:///none", "--log-format", "json", "--debug", "--cluster", FORGED)
    wait_until(lambda: "runtimes" in b.log_of("n0"))
    [cluster] = [each for each in records(b, "n0") if "GradientNode cluster:" in each["message"]]
    assert cluster["message"] == f"GradientNode cluster: {FORGED}"
    assert (cluster["level"], cluster["logger"]) == ("INFO", "gradient-node")
    [where] = [each for each in records(b, "server") if each["message"].startswith("serving ")]
    assert (where["message"], where["level"]) == (f"serving {b.url}", "INFO")


def test_why_a_daemon_does_not_start_is_one_as_well(b: Box) -> None:
    words = ["serve", "--data-root", str(b.data), "--port", "0", "--log-format", "json"]
    refused = b.run("jobd", *words)
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert json.loads(line)["level"] == "ERROR"
    words = ["--state-dir", str(b.root / "state-n0"), "--data-root", str(b.data), "--log-format", "json"]
    refused = b.run("gradient-node", *words, "--apiKey", (b.root / "node.key").read_text().strip())
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert "another gradient-node" in json.loads(line)["message"]


def test_a_form_that_there_is_not_is_refused(b: Box) -> None:
    assert "--log-format" in b.run("jobd", "serve", "--log-format", "xml").stderr
    refused = b.run("gradient-node", "--apiKey", (b.root / "node.key").read_text().strip(), "--log-format", "xml")
    assert (refused.returncode, refused.stderr) == (2, "gradient-node: --log-format xml: it is text or json\n")
