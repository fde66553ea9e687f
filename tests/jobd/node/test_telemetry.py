"""The watch over the GPUs: what falls silent is known still, what is wrong is said once, and no driver holds it up."""

import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from jobd.node import telemetry
from jobd.node.gpus import Gpu, Look
from jobd.node.telemetry import GpuWatch, merged
from jobd.wire import GpuReading, NodeGpu

Run = Callable[[Callable[[], Awaitable[None]]], None]

ONE = Gpu(NodeGpu("GPU-1", 0, "H200", 1 << 30), ("nvidia0",), "s1", GpuReading(5, 40, 7))
TWO = Gpu(NodeGpu("GPU-2", 1, "H200", 1 << 30), ("nvidia1",), "s2", GpuReading(5, 40, 7))
PART = Gpu(NodeGpu("MIG-1", 0, "H200 MIG 1g.18gb", 1 << 28, 0, "GPU-1"), ("nvidia0", "nvidia-caps/nvidia-cap3"))


class Scene:
    """A watch, and what it sees and says."""

    def __init__(self) -> None:
        self.look = Look((ONE, TWO), driver="575.1")
        self.said: list[str] = []
        self.watch = GpuWatch(self.said.append, lambda: self.look)

    async def sees(self, look: Look) -> None:
        self.look = look
        await self.watch.look()

    def ills(self) -> list[tuple[str, str]]:
        return [(gpu.uuid, gpu.ill) for gpu in self.watch.told.gpus]


def scene(run: Run, test: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        made = Scene()
        await made.sees(made.look)
        await test(made)

    run(main)


def test_a_gpu_that_falls_silent_is_told_as_ill_and_does_nothing_that_is_known(run: Run) -> None:
    async def test(here: Scene) -> None:
        await here.sees(Look((TWO,), {0: "it is lost"}))
        assert here.ills() == [("GPU-1", "it is lost"), ("GPU-2", "")]
        assert list(here.watch.told.readings) == ["GPU-2"]
        assert here.watch.refusal(["GPU-2"]) == ""
        assert here.watch.refusal(["GPU-2", "GPU-1"]) == "GPU 0 of the node is not well: it is lost"
        await here.sees(Look((ONE, TWO)))
        assert here.ills() == [("GPU-1", ""), ("GPU-2", "")]

    scene(run, test)


def test_a_gpu_that_is_gone_without_a_word_is_not_told_and_not_given(run: Run) -> None:
    async def test(here: Scene) -> None:
        await here.sees(Look((replace(TWO, told=replace(TWO.told, index=0)),)))
        assert here.ills() == [("GPU-2", "")]
        assert here.watch.refusal(["GPU-1"]) == "the node has no GPU GPU-1 any more"

    scene(run, test)


@pytest.mark.parametrize("absent", [True, False])
def test_a_driver_that_stops_working_takes_all_its_gpus_with_it_until_it_is_back(run: Run, absent: bool) -> None:
    async def test(here: Scene) -> None:
        await here.sees(Look(failure="the driver does not work: x", absent=absent))
        assert here.ills() == [(uuid, "the driver does not work: x") for uuid in ("GPU-1", "GPU-2")]
        await here.sees(Look((ONE, TWO)))
        assert here.ills() == [("GPU-1", ""), ("GPU-2", "")]

    scene(run, test)


def test_what_is_wrong_is_said_once_and_that_it_is_over(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(here: Scene) -> None:
        for look in (Look((TWO,), {0: "it is lost"}), Look((TWO,), {0: "it is lost"}), Look((ONE, TWO))):
            await here.sees(look)
        assert [record.message for record in caplog.records] == ["GPU 0 of this machine cannot be used: it is lost"]
        assert here.said == ["GPU 0 of this machine can be used again"]

    with caplog.at_level(logging.WARNING):
        scene(run, test)


def test_no_driver_is_no_gpu_and_no_noise(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        here = Scene()
        await here.sees(Look(failure="the driver does not work: not found", absent=True))
        assert here.watch.told.gpus == ()
        assert here.watch.attrs() == {}
        assert (here.said, caplog.records) == ([], [])

    run(main)


def test_only_news_is_told(run: Run) -> None:
    async def test(here: Scene) -> None:
        before, news = here.watch.told, here.watch.news
        await here.sees(Look((replace(ONE, reading=GpuReading(6, 41, 7)), TWO)))
        assert here.watch.told is before
        assert not news.is_set()
        await here.sees(Look((replace(ONE, reading=GpuReading(90, 41, 7)), TWO)))
        assert here.watch.told.readings["GPU-1"].util_percent == 90
        assert news.is_set()

    scene(run, test)


def test_a_driver_that_hangs_keeps_one_thread_and_its_gpus_from_everybody(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "LOOK_TIMEOUT_S", 0.02)
    release, asked = threading.Event(), []

    async def test(here: Scene) -> None:
        def hang() -> Look:
            asked.append(1)
            release.wait(20)
            return Look((ONE, TWO))

        here.watch._ask = hang
        for _ in range(3):
            await here.watch.look()
        assert len(asked) == 1
        assert {ill for _, ill in here.ills()} == {"the driver has not answered within 0 s"}
        release.set()

    scene(run, test)


def test_a_defect_of_a_look_costs_nothing_but_the_gpus(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test(here: Scene) -> None:
        def fail() -> Look:
            raise ValueError("strange")

        here.watch._ask = fail
        await here.watch.look()
        assert {ill for _, ill in here.ills()} == {"they cannot be looked at: strange"}

    scene(run, test)


def test_an_instance_shares_the_fate_of_its_gpu() -> None:
    assert [gpu.told.ill for gpu in merged([PART, TWO], Look((TWO,), {0: "it is lost"}))] == ["it is lost", ""]
    assert merged([ONE, TWO], Look((PART, TWO))) == [PART, TWO]


def test_nodes_are_selected_by_what_their_gpus_have_in_common(run: Run) -> None:
    async def test(here: Scene) -> None:
        assert here.watch.attrs() == {
            "gpuCount": "2",
            "gpuDevice": "/dev/nvidia0, /dev/nvidia1",
            "gpuDriver": "575.1",
            "gpuMem": "1048576 kB",
            "gpuModel": "H200",
            "gpuName": "H200",
            "gpuSerial": "s1, s2",
        }
        assert here.watch.files()["GPU-2"] == ("nvidia1",)

    scene(run, test)
