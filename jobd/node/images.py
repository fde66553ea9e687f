"""The images of an engine: fetched where they are missing, once for all that wait for one, and shown to who may see it.

An image that is there is used as it is, whatever its tag means elsewhere by now, as `docker run` does it. While one is
fetched, those that wait for it are told how that goes, seldom enough for a log; when nobody waits any more, it ends. A
registry that cannot be reached is asked again a few times, with pauses; what it refuses is refused, in its own words.

What was fetched with somebody's credential is marked in the runtime's directory, by its name and by its id. On an
engine every image is for everybody; so whoever wants a marked one has to get it from its registry as well, though it is
there: that costs one question. Where that needs no credential, it is for everybody, and the mark goes.

A container is made of what was found here, by its id: the name may mean something else a moment later. What other
nodes shall fetch is called by a digest that a registry is known to have: by the engine, by a pull, or since the
registry was asked.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import trio

from jobd.imagename import image_of
from jobd.node.engine import NOT_FOUND, Engine, Refusal
from jobd.node.runtime import Launch, RuntimeAway, Tell
from jobd.wire import Credential

log = logging.getLogger(__name__)

PULL_S_MAX = 3600.0
SILENCE_S_MAX = 300.0
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
TELL_FIRST_S, TELL_MOST_S = 5.0, 60.0
# so long is believed what a registry said of a credential, or that it has something not
PROVEN_S = 600.0
ASK_S = 5.0

# what passes: the network, and a registry that is down or has too much to do
_PASSING = re.compile(
    r"dial tcp|connection re(fused|set)|time-?out|timed out|no route to host|network is unreachable|\bEOF\b"
    r"|temporary failure|server misbehaving|service unavailable|bad gateway"
    r"|too ?many ?requests|(status|code)[^0-9]*(429|5\d\d)\b",
    re.IGNORECASE,
)
_LASTING = re.compile(r"no such host", re.IGNORECASE)
_CLOSED = re.compile(r"unauthori[sz]ed|denied|no basic auth|authentication required", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """An image that an engine has.

    Attributes:
        id: what containers are made of.
        digest: what a registry that has it calls it, `name@sha256:…`; its id where none is known to have it.
        env: the variables that it gives to what runs in it, each as `name=value`.
    """

    id: str
    digest: str
    env: tuple[str, ...] = ()


class Progress:
    """What an engine tells of a pull: how much has come of the layers that are missing."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._whole: set[str] = set()

    @property
    def size_bytes(self) -> int:
        """How much there is to fetch, as far as it is known."""
        return sum(total for _, total in self._layers.values())

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take what the engine says next."""
        layer, status = str(event.get("id", "")), event.get("status")
        detail = event.get("progressDetail") or {}
        match status:
            case "Pulling fs layer":
                self._layers.setdefault(layer, (0, 0))
            case "Downloading":
                self._layers[layer] = int(detail.get("current", 0)), max(int(detail.get("total", 0)), 0)
            case "Download complete" | "Pull complete" if layer in self._layers:
                total = self._layers[layer][1]
                self._layers[layer] = total, total
                self._whole.add(layer)

    def __str__(self) -> str:
        have = sum(current for current, _ in self._layers.values())
        if self._layers and len(self._whole) == len(self._layers):
            return f"{_mib(have)}, being unpacked"
        return f"{_mib(have)} of {_mib(self.size_bytes)}, {len(self._whole)} of {len(self._layers)} layers"


class _Pull:
    """One pull, and who waits for it."""

    def __init__(self, image: str, credential: Credential | None, *, is_there: bool) -> None:
        self.image = image
        self.credential = credential
        self.is_there = is_there
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.failure: Refusal | RuntimeAway | None = None
        self.tells: list[Tell] = []
        self.said = ""

    def say(self, text: str) -> None:
        """Tell all who wait."""
        self.said = text
        for tell in self.tells:
            tell(text)


class Images:
    """The images of one engine.

    Args:
        directory: keeps what not everybody may see.
        nursery: runs the pulls.
    """

    def __init__(self, engine: Engine, directory: Path, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._marks = directory
        self._nursery = nursery
        self._pulls: dict[tuple[str, Credential | None], _Pull] = {}
        self._proven: dict[tuple[str, Credential | None], float] = {}
        self._asked: dict[str, tuple[float, bool]] = {}
        self._marks.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def bring(self, launch: Launch, tell: Tell) -> Found:
        """Return the image of a task once it is there.

        Args:
            tell: told how it goes, where it has to be fetched.

        Raises:
            Refusal: it cannot be had; with the registry's words.
            RuntimeAway: the engine does not answer.
        """
        image = launch.pinned or str(launch.image)
        full = image_of(image)
        name = str(full)  # a short one can also be the beginning of the id of any image
        credential = launch.credential
        if credential is not None and credential.server != full.registry:
            credential = None  # it is for no other
        found = await self._find(name, credential)
        if found is not None and not self._is_closed(name, found, credential):
            return found
        await self._wait(name, _Pull(image, credential, is_there=found is not None), tell)
        found = await self._find(name, credential)
        if found is None:
            raise Refusal(NOT_FOUND, f"no image {image!r}: it was removed as soon as it had come")
        return found

    async def _find(self, name: str, credential: Credential | None, *, has_come: bool = False) -> Found | None:
        """Return an image if it is there.

        Args:
            has_come: its registry has just given it.
        """
        try:
            told = await self._engine.call(lambda client: client.inspect_image(name))
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None
        env = tuple(str(each) for each in (told.get("Config") or {}).get("Env") or ())
        for digest in digests_of(name, told):
            is_own = image_of(digest).repository == image_of(name).repository
            if has_come and is_own:
                self._asked[digest] = inf, True
            if await self._is_elsewhere(digest, told, credential if is_own else None):
                return Found(str(told["Id"]), digest, env)
        return Found(str(told["Id"]), str(told["Id"]), env)

    async def _is_elsewhere(self, digest: str, told: Mapping[str, Any], credential: Credential | None) -> bool:
        """Tell whether other nodes can fetch what this engine calls by a digest."""
        known = is_elsewhere(digest, told)
        if known is not None:
            return known
        asked_s, has_it = self._asked.get(digest, (-inf, False))
        if trio.current_time() - asked_s > PROVEN_S:
            has_it = False
            with trio.move_on_after(ASK_S):
                has_it = await self._engine.registry_has(digest, credential)
            self._asked[digest] = inf if has_it else trio.current_time(), has_it
        return has_it

    # ---- what not everybody may see

    def _is_closed(self, name: str, found: Found, credential: Credential | None) -> bool:
        """Tell whether an image that is there has to be asked for at its registry."""
        if not any(self._mark(word).exists() for word in (name, found.id)):
            return False
        proven_s = self._proven.get((name, credential))
        return proven_s is None or trio.current_time() - proven_s > PROVEN_S

    def _mark(self, word: str) -> Path:
        return self._marks / hashlib.sha256(word.encode()).hexdigest()

    async def _pull_marked(self, name: str, pull: _Pull) -> None:
        """Pull, and keep whom it is for: never, not even after a kill, is it there and not marked that should be."""
        mark = self._mark(name)
        is_new = pull.credential is not None and not pull.is_there and not mark.exists()
        if is_new:
            mark.touch(0o600)
        try:
            await self._pull(name, pull)
        except Refusal:
            if is_new:
                mark.unlink(missing_ok=True)
            raise
        found = await self._find(name, pull.credential, has_come=True)
        if found is None:
            return
        if pull.credential is None:
            for word in (name, found.id):
                self._mark(word).unlink(missing_ok=True)
        else:
            self._mark(found.id).touch(0o600)
            self._proven[name, pull.credential] = trio.current_time()

    # ---- pulling

    async def _wait(self, name: str, pull: _Pull, tell: Tell) -> None:
        """Return when a pull is done: this one, or one of the same that is under way."""
        key = name, pull.credential
        if key in self._pulls:
            pull = self._pulls[key]
            if pull.said:  # else it has only just been begun
                tell(pull.said)
        else:
            self._pulls[key] = pull
            self._nursery.start_soon(self._run, name, pull)
        pull.tells.append(tell)
        try:
            await pull.over.wait()
        finally:
            pull.tells.remove(tell)
            if not pull.tells:
                pull.scope.cancel()
                if self._pulls.get(key) is pull:
                    del self._pulls[key]
        if pull.failure is not None:
            raise pull.failure

    async def _run(self, name: str, pull: _Pull) -> None:
        try:
            with pull.scope:
                await self._pull_marked(name, pull)
        except (Refusal, RuntimeAway) as error:
            pull.failure = error
        except Exception as error:
            log.exception("defect while pulling %s", name)
            pull.failure = Refusal(0, f"no image {pull.image!r}: {type(error).__name__}")
        finally:
            if self._pulls.get((name, pull.credential)) is pull:
                del self._pulls[name, pull.credential]
            pull.over.set()

    async def _pull(self, name: str, pull: _Pull) -> None:
        began_s, pauses = trio.current_time(), iter(PAUSES_S)
        registry = image_of(name).registry
        pull.say(f"asking {registry} for {pull.image}" if pull.is_there else f"pulling {pull.image}")
        while True:
            words, passes = "", True
            try:
                with trio.fail_at(began_s + PULL_S_MAX):
                    size_bytes = await self._pull_once(name, pull)
                break
            except trio.TooSlowError:
                limit = f"{PULL_S_MAX / 60:.0f} min"
                raise Refusal(NOT_FOUND, f"image {pull.image!r} did not come within {limit}") from None
            except RuntimeAway as error:
                words = str(error)
            except Refusal as refusal:
                words, passes = str(refusal), is_passing(str(refusal))
            pause_s = next(pauses, None)
            if not passes or pause_s is None:
                raise Refusal(NOT_FOUND, f"no image {pull.image!r}: {words}{_advice(words, pull)}")
            pull.say(f"pulling {pull.image}: {words}; trying again in {pause_s:g} s")
            await trio.sleep(pause_s)
        if size_bytes or not pull.is_there:
            pull.say(f"pulled {pull.image}: {_mib(size_bytes)} in {trio.current_time() - began_s:.1f} s")

    async def _pull_once(self, name: str, pull: _Pull) -> int:
        """Pull; return how much came."""
        progress, pause_s = Progress(), TELL_FIRST_S
        tell_at_s = trio.current_time() + pause_s
        with trio.move_on_after(SILENCE_S_MAX) as silence:
            async with self._engine.pull(name, pull.credential) as told:
                while events := await told.next():
                    silence.deadline = trio.current_time() + SILENCE_S_MAX
                    for event in events:
                        if error := event.get("error"):
                            raise Refusal(NOT_FOUND, str(error))
                        progress.feed(event)
                    if trio.current_time() >= tell_at_s:
                        pull.say(f"pulling {pull.image}: {progress}")
                        pause_s = min(pause_s * 2, TELL_MOST_S)
                        tell_at_s = trio.current_time() + pause_s
            return progress.size_bytes
        raise Refusal(0, f"timed out: nothing came for {SILENCE_S_MAX / 60:.0f} min")


def digests_of(name: str, told: Mapping[str, Any]) -> list[str]:
    """Return what an image is called by digests, `name` itself or those of its registry first.

    Args:
        told: what the engine tells of it.
    """
    repository = image_of(name).repository
    digests = [str(digest) for digest in told.get("RepoDigests") or ()]
    return sorted(digests, key=lambda each: (image_of(each).repository != repository, str(image_of(each)) != name))


def is_elsewhere(digest: str, told: Mapping[str, Any]) -> bool | None:
    """Tell whether a registry has what an engine calls by a digest; None where the engine does not tell.

    An engine with containerd's store calls all that it has by its own id, also what was built there and is nowhere
    else; newer ones tell whence they have it.
    """
    named = image_of(digest)
    if named.digest != str(told["Id"]):
        return True
    if (identity := told.get("Identity")) is None:
        return None
    return any(image_of(str(each["Repository"])).repository == named.repository for each in identity.get("Pull") or ())


def is_passing(words: str) -> bool:
    """Tell by an engine's words whether the same may go well a little later."""
    return _PASSING.search(words) is not None and _LASTING.search(words) is None


def _advice(words: str, pull: _Pull) -> str:
    if _CLOSED.search(words) is None:
        return ""
    if pull.credential is None:
        return " (where it takes a credential, the spec names one: registry: NAME)"
    return f" (asked as {pull.credential.username!r}, by the credential that the spec names)"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
