"""`resolved.yaml`: a job with its defaults, and what it was given."""

import json
from dataclasses import replace

import pytest

from jobd.files.resolved import resolved
from jobd.job import Job
from jobd.life.events import Started
from jobd.spec.spec import parse_spec
from tests.jobd.engine.worlds import after, placed, waiting

DIGEST = f"docker.io/library/python@sha256:{'a' * 64}"

SPECS = (
    "command: x\n",
    "command: [a, 'b c', 'é\U0001f600']\nimage: python:3.11\nregistry: corp\nenv: {A: '1', B: \"x\\ny\"}\nshm: 1GiB\n",
    "src: digits\ntitle: 'A: title'\nmax_duration: 90s\ngrace: 0s\npriority: 9\nend: any\non_error: continue\n",
    "command: x\ncontinue: 3\nmounts: ['data:/data:ro', 'out:/out']\nretry: {max: 2, on: [node]}\nprivate: true\n",
    "command: x\nsecrets: [wandb, other]\n",
    "command: x\narray: 0-3,7%2\ndepends_on: [4, 'afterany:5']\nhold: true\ncluster: The lab\nnodes: [n0]\n",
    "git: {url: 'https://example.org/a/b.git', ref: main}\nrequire: {cpuCount: '>=4', gpuModel: K80}\n",
    "groups:\n- {name: a, count: 2, resources: {cpu: 1.5, memory: 1.5Ki, gpu: {k80: 2}}, command: x}\n"
    "- {name: b, command: y, service: true, resources: {gpu: 3}}\n",
)


@pytest.mark.parametrize("text", SPECS)
def test_it_asks_for_just_what_the_spec_asks_for(text: str) -> None:
    job = waiting(1, text)
    again = parse_spec(resolved(job, {}).split("attempt:")[0].encode(), "a")
    assert again == job.spec


def test_what_people_changed_counts_and_not_what_was_written() -> None:
    job = waiting(1, "command: x\npriority: 9\nmax_duration: 60s\n")
    job = replace(job, life=replace(job.life, priority=20, max_duration_s=90.0))
    assert 'priority: 20\nmax_duration: "90s"\n' in resolved(job, {})


def test_each_process_is_told_with_its_node_its_gpus_and_its_image() -> None:
    text = "groups: [{name: a, count: 2, image: python, command: x}]\n"
    job: Job = placed(waiting(1, text), "cm0", "cm1", gpus={1: ("GPU-7",)})
    job = after(job, Started(time_ns=1, worker=1, image=DIGEST))
    lines = resolved(job, {"cm0": "n0"}).split("processes:\n")[1].splitlines()
    assert [json.loads(line.removeprefix("- ")) for line in lines] == [
        {"group": "a", "process": 0, "node": "n0", "gpus": []},
        {"group": "a", "process": 1, "node": "cm1", "gpus": ["GPU-7"], "image": DIGEST},
    ]
