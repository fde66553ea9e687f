"""Images on an engine: fetched once for all that wait, told seldom, asked for again where it helps, and for whom."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from jobd.imagename import image_of
from jobd.node.engine import NOT_FOUND, Refusal
from jobd.node.enginestreams import Events
from jobd.node.images import ASK_S, PAUSES_S, PROVEN_S, Found, Images, Progress, digests_of, is_passing
from jobd.node.runtime import Launch, untold
from jobd.wire import Credential

NAME, FULL = "reg:5000/team/x:1", "reg:5000/team/x:1"
ANN, BOB = Credential("reg:5000", "ann", "one"), Credential("reg:5000", "bob", "two")
DOWN = 'Get "http://reg:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused'
CLOSED = 'Head "http://reg:5000/v2/team/x/manifests/1": no basic auth credentials'


def launch(image: str = NAME, credential: Credential | None = None, pinned: str | None = None) -> Launch:
    return Launch("17.1.0.0", ("true",), {}, "/", "h", image=image, credential=credential, pinned=pinned)


class FakeEngine:
    """An engine with a registry.

    Attributes:
        images: what it has, by full name.
        private: only these credentials may have what the registry has; None for everybody.
        answers: what the next pulls fail with, one each; "" is no failure.
        events: what a pull tells, a second apart.
        held: a pull waits for this.
        registry: what registries say that they have; silent: they say nothing.
    """

    def __init__(self) -> None:
        self.images: dict[str, Mapping[str, Any]] = {}
        self.private: set[Credential] | None = None
        self.answers: list[str] = []
        self.events: Sequence[Mapping[str, Any]] = ()
        self.held: trio.Event | None = None
        self.pulls: list[tuple[str, Credential | None]] = []
        self.registry: set[str] = set()
        self.silent = False
        self.questions: list[tuple[str, Credential | None]] = []
        self.open = 0

    async def registry_has(self, image: str, credential: Credential | None) -> bool:
        self.questions.append((image, credential))
        if self.silent:
            await trio.sleep_forever()
        return image in self.registry

    async def call(self, function: Callable[[Any], Any]) -> Any:
        await trio.lowlevel.checkpoint()
        return function(self)

    def inspect_image(self, name: str) -> Mapping[str, Any]:
        if name not in self.images:
            raise Refusal(NOT_FOUND, f"no such image: {name}")
        return self.images[name]

    @asynccontextmanager
    async def pull(self, image: str, credential: Credential | None) -> AsyncIterator[Events]:
        self.pulls.append((image, credential))
        self.open += 1
        coming = iter(self.events)

        async def read() -> bytes:
            if self.held is not None:
                await self.held.wait()
            event = next(coming, None)
            if event is None:
                return self._end(image, credential)
            await trio.sleep(1)
            return json.dumps(event).encode() + b"\r\n"

        try:
            yield Events(read)
        finally:
            self.open -= 1

    def _end(self, image: str, credential: Credential | None) -> bytes:
        words = self.answers.pop(0) if self.answers else ""
        if self.private is not None and credential not in self.private:
            words = CLOSED
        if words:
            return json.dumps({"error": words, "errorDetail": {"message": words}}).encode() + b"\r\n"
        self.images[image] = {"Id": f"sha256:{'1' * 64}", "RepoDigests": [f"{image.rpartition(':')[0]}@sha256:aa"]}
        return b""


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


Within = Callable[[Callable[[Images, trio.Nursery], Awaitable[None]]], None]


@pytest.fixture
def within(engine: FakeEngine, tmp_path: Path) -> Within:
    def within(main: Callable[[Images, trio.Nursery], Awaitable[None]]) -> None:
        async def outer() -> None:
            async with trio.open_nursery() as nursery:
                await main(Images(engine, tmp_path / "images", nursery), nursery)  # type: ignore[arg-type]
                nursery.cancel_scope.cancel()

        trio.run(outer, clock=MockClock(autojump_threshold=0))

    return within


async def refusal(images: Images, asked: Launch) -> str:
    with pytest.raises(Refusal) as raised:
        await images.bring(asked, untold)
    return str(raised.value)


def test_an_image_that_is_there_is_used_as_it_is(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.images["docker.io/library/x:latest"] = {"Id": "sha256:22", "RepoDigests": None}
        said: list[str] = []
        assert await images.bring(launch("x"), said.append) == Found("sha256:22", "sha256:22")
        assert (engine.pulls, said) == ([], [])

    within(main)


def test_the_variables_of_an_image_are_known_wherever_it_is_from(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        env = ["PATH=/bin", "PYTHONPATH=/opt"]
        told = {"Id": "sha256:22", "Config": {"Env": env}}
        for digests, said in (([], env), ([f"reg:5000/team/x@sha256:{'3' * 64}"], env), ([], None)):
            engine.images[FULL] = {**told, "RepoDigests": digests, "Config": {"Env": said}}
            assert (await images.bring(launch(), untold)).env == tuple(said or ())

    within(main)


@pytest.mark.parametrize("at_once", [True, False])
def test_all_that_wait_for_an_image_share_one_pull_and_are_told_of_it(
    engine: FakeEngine, within: Within, at_once: bool
) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.held = trio.Event()
        said: list[list[str]] = [[], [], []]
        found: list[Found] = []

        async def bring(lines: list[str]) -> None:
            found.append(await images.bring(launch(), lines.append))

        for lines in said:
            nursery.start_soon(bring, lines)
            if not at_once:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        engine.held.set()
        await wait_all_tasks_blocked()
        assert engine.pulls == [(FULL, None)]
        assert found == [Found(f"sha256:{'1' * 64}", "reg:5000/team/x@sha256:aa")] * 3
        assert said == [[f"pulling {NAME}", f"pulled {NAME}: 0.0 MiB in 0.0 s"]] * 3

    within(main)


def test_a_pull_ends_when_nobody_waits_for_it_any_more(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.held = trio.Event()
        scopes = [trio.CancelScope(), trio.CancelScope()]

        async def bring(scope: trio.CancelScope) -> None:
            with scope:
                await images.bring(launch(), untold)

        for scope in scopes:
            nursery.start_soon(bring, scope)
        await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        assert engine.open == 1
        scopes[1].cancel()
        await wait_all_tasks_blocked()
        assert engine.open == 0
        engine.held.set()
        await images.bring(launch(), untold)
        assert len(engine.pulls) == 2

    within(main)


def test_how_it_goes_is_told_at_growing_pauses(engine: FakeEngine, within: Within) -> None:
    def down(mib: int) -> Mapping[str, Any]:
        return {"id": "a", "status": "Downloading", "progressDetail": {"current": mib << 20, "total": 400 << 20}}

    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.events = [{"id": "a", "status": "Pulling fs layer"}, *(down(mib) for mib in range(400))]
        said: list[tuple[float, str]] = []
        start_s = trio.current_time()
        await images.bring(launch(), lambda text: said.append((trio.current_time() - start_s, text)))
        assert [round(at_s) for at_s, _ in said] == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375, 401]
        assert said[1][1] == f"pulling {NAME}: 3.0 MiB of 400.0 MiB, 0 of 1 layers"
        assert said[-1][1] == f"pulled {NAME}: 400.0 MiB in 401.0 s"

    within(main)


def test_a_registry_that_cannot_be_reached_is_asked_again_with_pauses(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.answers = [DOWN, DOWN, ""]
        said: list[str] = []
        await images.bring(launch(), said.append)
        again = [f"pulling {NAME}: {DOWN}; trying again in {pause_s:g} s" for pause_s in PAUSES_S[:2]]
        assert said == [f"pulling {NAME}", *again, f"pulled {NAME}: 0.0 MiB in 3.0 s"]

    within(main)


def test_one_that_stays_away_fails_the_start_in_the_engines_words(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.answers = [DOWN] * 9
        assert await refusal(images, launch()) == f"no image '{NAME}': {DOWN}"
        assert len(engine.pulls) == len(PAUSES_S) + 1

    within(main)


def test_what_is_refused_is_asked_for_once(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.answers = ["manifest for reg:5000/team/x:1 not found: manifest unknown"]
        assert "manifest unknown" in await refusal(images, launch())
        assert len(engine.pulls) == 1

    within(main)


def test_silence_is_taken_for_a_network_that_fails(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.held = trio.Event()
        assert "nothing came for 5 min" in await refusal(images, launch())
        assert len(engine.pulls) == len(PAUSES_S) + 1

    within(main)


# ---- who may have it


def test_a_private_image_is_shown_to_nobody_who_cannot_have_it_himself(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.private = {ANN}
        await images.bring(launch(credential=ANN), untold)
        assert "(where it takes a credential, the spec names one: registry: NAME)" in await refusal(images, launch())
        assert "asked as 'bob'" in await refusal(images, launch(credential=BOB))
        # under another name it is the same
        engine.images["reg:5000/team/y:1"] = engine.images[FULL]
        assert CLOSED in await refusal(images, launch("reg:5000/team/y:1"))

    within(main)


def test_a_restarted_daemon_knows_what_is_private(engine: FakeEngine, within: Within, tmp_path: Path) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.private = {ANN}
        await images.bring(launch(credential=ANN), untold)
        images = Images(engine, tmp_path / "images", nursery)  # type: ignore[arg-type]
        assert CLOSED in await refusal(images, launch())

    within(main)


def test_an_image_is_private_before_a_pull_that_was_cut_off_could_have_brought_it(
    engine: FakeEngine, within: Within
) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.private, engine.held = {ANN}, trio.Event()
        with trio.move_on_after(1):
            await images.bring(launch(credential=ANN), untold)
        engine.held.set()
        engine.images[FULL] = {"Id": "sha256:22"}
        assert CLOSED in await refusal(images, launch())

    within(main)


def test_a_registry_is_believed_for_a_while_and_then_asked_once_more(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        said: list[str] = []
        for _ in range(3):
            await images.bring(launch(credential=ANN), said.append)
        assert len(engine.pulls) == 1
        await trio.sleep(PROVEN_S + 1)
        await images.bring(launch(credential=ANN), said.append)
        assert len(engine.pulls) == 2
        assert said[2:] == [f"asking reg:5000 for {NAME}"]

    within(main)


def test_what_everybody_may_have_is_asked_for_no_more(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        await images.bring(launch(credential=ANN), untold)
        for _ in range(3):
            await images.bring(launch(), untold)
        assert engine.pulls == [(FULL, ANN), (FULL, None)]

    within(main)


def test_a_wrong_credential_makes_nothing_private(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.private = {ANN}
        await refusal(images, launch(credential=BOB))
        engine.images[FULL] = {"Id": "sha256:22"}
        await images.bring(launch(), untold)
        assert len(engine.pulls) == 1

    within(main)


def test_a_credential_goes_to_its_own_registry_only(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        await images.bring(launch("evil:5000/x:1", credential=ANN), untold)
        await images.bring(launch(credential=ANN, pinned=f"evil:5000/x@sha256:{'3' * 64}"), untold)
        assert {credential for _, credential in engine.pulls} == {None}

    within(main)


def test_a_pinned_image_is_fetched_by_its_digest(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.images[FULL] = {"Id": "sha256:22"}
        await images.bring(launch(pinned="reg:5000/team/x@sha256:aa"), untold)
        assert engine.pulls == [("reg:5000/team/x@sha256:aa", None)]

    within(main)


# ---- an engine with containerd's store, which calls all that it has by digests

LOCAL = f"reg:5000/team/x@sha256:{'2' * 64}"
STORED: Mapping[str, Any] = {"Id": f"sha256:{'2' * 64}", "RepoDigests": [LOCAL]}


@pytest.mark.parametrize(
    ("identity", "found"),
    [
        ({"Pull": [{"Repository": "reg:5000/team/x"}]}, LOCAL),
        ({"Pull": [{"Repository": "docker.io/library/x"}]}, STORED["Id"]),
        ({"Build": [{"Ref": "r"}]}, STORED["Id"]),
    ],
    ids=["fetched or pushed", "fetched by another name", "built"],
)
def test_what_was_only_built_on_a_machine_is_told_by_no_digest_of_a_registry(
    engine: FakeEngine, within: Within, identity: Mapping[str, Any], found: str
) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.images[FULL] = {**STORED, "Identity": identity}
        assert (await images.bring(launch(), untold)).digest == found
        assert engine.questions == []

    within(main)


@pytest.mark.parametrize("has_it", [True, False])
def test_where_the_engine_does_not_tell_whence_it_has_an_image_the_registry_is_asked_but_seldom(
    engine: FakeEngine, within: Within, has_it: bool
) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.images[FULL] = STORED
        engine.registry = {LOCAL} if has_it else set()
        for _ in range(2):
            assert (await images.bring(launch(), untold)).digest == (LOCAL if has_it else STORED["Id"])
        assert engine.questions == [(LOCAL, None)]
        await trio.sleep(PROVEN_S + 1)
        await images.bring(launch(credential=ANN), untold)
        assert engine.questions[1:] == ([] if has_it else [(LOCAL, ANN)])

    within(main)


def test_a_registry_that_does_not_answer_holds_up_no_task_for_long(engine: FakeEngine, within: Within) -> None:
    async def main(images: Images, nursery: trio.Nursery) -> None:
        engine.images[FULL], engine.silent = STORED, True
        began_s = trio.current_time()
        for _ in range(2):
            assert (await images.bring(launch(), untold)).digest == STORED["Id"]
        assert trio.current_time() - began_s == ASK_S

    within(main)


def test_what_has_just_come_is_not_asked_for_again(
    engine: FakeEngine, within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(image: str, credential: Credential | None) -> bytes:
        engine.images[image] = STORED
        return b""

    monkeypatch.setattr(engine, "_end", end)

    async def main(images: Images, nursery: trio.Nursery) -> None:
        assert (await images.bring(launch(), untold)).digest == LOCAL
        assert engine.questions == []

    within(main)


# ---- words


@pytest.mark.parametrize(
    ("name", "digests", "found"),
    [
        ("x", ["other/x@sha256:bb", "x@sha256:aa"], "x@sha256:aa"),
        ("reg:5000/x:1", ["x@sha256:bb", "reg:5000/x@sha256:aa"], "reg:5000/x@sha256:aa"),
        ("reg:5000/x@sha256:bb", ["reg:5000/x@sha256:aa", "reg:5000/x@sha256:bb"], "reg:5000/x@sha256:bb"),
        ("x", ["y@sha256:bb"], "y@sha256:bb"),
        ("x", [], None),
        ("x", None, None),
    ],
)
def test_the_digest_is_that_of_the_images_own_registry(name: str, digests: list[str] | None, found: str | None) -> None:
    told = {"Id": "sha256:id", "RepoDigests": digests}
    assert next(iter(digests_of(str(image_of(name)), told)), None) == found


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (DOWN, True),
        ("dial tcp: lookup reg on 127.0.0.11:53: server misbehaving", True),
        ("net/http: TLS handshake timeout", True),
        ("received unexpected HTTP status: 503 Service Unavailable", True),
        ("toomanyrequests: You have reached your pull rate limit", True),
        ("unexpected EOF", True),
        ("read tcp 10.0.0.2:1->10.0.0.1:5000: read: connection reset by peer", True),
        ("dial tcp: lookup nowhere.example.org: no such host", False),
        (CLOSED, False),
        ("pull access denied for x, repository does not exist or may require 'docker login'", False),
        ("manifest for reg:5000/x:500 not found: manifest unknown", False),
        ("no matching manifest for linux/amd64 in the manifest list entries", False),
        ("write /data/tmp: no space left on device", False),
    ],
)
def test_what_may_go_well_a_little_later_is_known_by_its_words(words: str, passes: bool) -> None:
    assert is_passing(words) is passes


def test_the_size_counts_the_layers_that_are_missing() -> None:
    progress = Progress()
    for layer, status, detail in (
        ("a", "Pulling fs layer", {}),
        ("b", "Pulling fs layer", {}),
        ("c", "Already exists", {}),
        ("a", "Downloading", {"current": 1 << 20, "total": 3 << 20}),
        ("b", "Downloading", {"current": 1 << 20, "total": 1 << 20}),
        ("b", "Download complete", {}),
    ):
        progress.feed({"id": layer, "status": status, "progressDetail": detail})
    assert str(progress) == "2.0 MiB of 4.0 MiB, 1 of 2 layers"
    progress.feed({"id": "a", "status": "Download complete"})
    assert str(progress) == "4.0 MiB, being unpacked"
