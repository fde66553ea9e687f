"""GPUs that fail, nodes that are drained, and one that fails every job: with real programs, and a driver that obeys."""

from collections.abc import Callable

import pytest

from integration.box import Box, box, wait_until
from integration.stubnvml import changing_gpus
from integration.test_administration import jobd, submit
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError

GPU = "nodes/n0/gpus/0"
LOST = "it is lost: its driver does not reach it any more"
LOOKED_S = 180.0  # the node has looked at its GPUs, twice at most, on a machine that does much else
ONE_GPU = "resources: '[gtx1070]'\ncommand: "


def _reader(client: WebClient) -> Callable[[str], str]:
    return lambda path: client.read(path).decode().strip()


def _user(world: Box, name: str) -> str:
    return jobd(world, "adduser", name).split("token: ")[1].split()[0]


def test_a_job_waits_for_a_gpu_that_is_lost_and_for_a_node_that_is_drained_and_then_runs() -> None:
    with box() as world, changing_gpus(["GTX 1070"]) as (env, gpus):
        world.start_server()
        world.start_node(env=env)
        with WebClient(world.url, world.token) as demo, WebClient(world.url, _user(world, "ann")) as ann:
            said = _reader(demo)
            jobd(world, "alias", "gtx1070", "GTX 1070")
            wait_until(lambda: bool(demo.list("aliases")))
            running = submit(demo, "running", ONE_GPU + "sleep 600\n")
            wait_until(lambda: said(f"{running}/state") == "RUNNING")

            gpus.are({0: ["lost"]})
            wait_until(lambda: said(f"{GPU}/health") == LOST, LOOKED_S)
            assert said(f"{running}/state") == "RUNNING"
            waiting = submit(demo, "waiting", ONE_GPU + "echo $NVIDIA_VISIBLE_DEVICES\n")
            demo.write(f"{running}/ctl", b"kill\n")
            wait_until(lambda: said(f"{running}/state") == "CANCELLED")
            assert (said(f"{waiting}/state"), said(f"{GPU}/job")) == ("WAITING", "")
            assert "it is lost" in said(f"{waiting}/why")

            world.end("n0")
            world.start_node(env=env)
            assert said(f"{GPU}/health") == "its node does not tell of it any more"
            assert said(f"{waiting}/state") == "WAITING"

            with pytest.raises(PfsError) as caught:
                ann.write("nodes/n0/ctl", b"drain\n")
            assert caught.value.kind is Kind.FORBIDDEN
            demo.write("nodes/n0/ctl", b"drain new disk\n")
            gpus.are({0: ["util 55", "temperature 70"]})
            wait_until(lambda: said(f"{GPU}/util") == "55%", LOOKED_S)
            assert (said(f"{GPU}/health"), said(f"{GPU}/temperature")) == ("ok", "70C")
            assert (said(f"{waiting}/state"), said("nodes/n0/state")) == ("WAITING", "DRAINED")
            assert "drained by demo: new disk" in said(f"{waiting}/why")
            assert jobd(world, "resume", "n0") == ""
            wait_until(lambda: said(f"{waiting}/state") == "SUCCEEDED")
            assert said(f"{GPU}/uuid") in said(f"{waiting}/log.txt")


def test_a_node_that_fails_one_job_after_the_other_is_set_aside_until_it_is_resumed() -> None:
    with box() as world:
        world.start_server()
        world.start_node()
        with WebClient(world.url, world.token) as demo, WebClient(world.url, _user(world, "ann")) as ann:
            said = _reader(demo)
            for number, client in enumerate((demo, ann, demo, ann, demo)):
                submit(client, f"broken{number}", "command: exit 3\n")
            wait_until(lambda: said("nodes/n0/state") == "SETASIDE")
            last = submit(demo, "fine", "command: 'true'\n")
            assert "5 different jobs in a row failed there" in said(f"{last}/why")
            assert "is set aside" in world.log_of("server")
            world.end("server")
            world.start_server()
            wait_until(lambda: said("nodes/n0/state") == "SETASIDE")
            demo.write("nodes/n0/ctl", b"resume\n")
            wait_until(lambda: said(f"{last}/state") == "SUCCEEDED")
