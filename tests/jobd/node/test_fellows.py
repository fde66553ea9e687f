"""Waiting until fellows can be found: names are asked for one after the other, until each is known."""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from jobd.node import fellows
from jobd.node.fellows import is_found, question, until_found

Run = Callable[[Callable[[], Awaitable[None]]], None]
FOUND, UNKNOWN, FAILED = "found", "unknown", "failed"
FLAGS = {FOUND: (0x8180, 1), UNKNOWN: (0x8183, 0), FAILED: (0x8182, 0)}


def answer(asked: bytes, what: str, number: int | None = None) -> bytes:
    """Return how a resolver answers a question."""
    flags, answers = FLAGS[what]
    head = asked[:2] if number is None else number.to_bytes(2, "big")
    return head + flags.to_bytes(2, "big") + bytes([0, 1, 0, answers, 0, 0, 0, 0]) + asked[12:]


def name_in(asked: bytes) -> str:
    length = asked[12]
    return asked[13 : 13 + length].decode()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (answer(question("a-1-0", 7), FOUND), True),
        (answer(question("a-1-0", 7), UNKNOWN), False),
        (answer(question("a-1-0", 7), FAILED), False),
        (answer(question("a-1-0", 8), FOUND), None),
        (b"\x00\x07\x81", None),
    ],
)
def test_an_answer_is_understood(said: bytes, found: bool | None) -> None:
    assert is_found(said, 7) is found


def test_a_question_is_that_of_any_resolver() -> None:
    asked = question("word-emb-17-3", 0xABCD)
    assert asked == b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\rword-emb-17-3\x00\x00\x01\x00\x01"


@contextmanager
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give a resolver that is asked in the place of the engine's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        monkeypatch.setattr(fellows, "RESOLVER", made.getsockname())
        monkeypatch.setattr(fellows, "AGAIN_S", 0.001)
        yield made


def test_each_name_is_asked_for_until_it_is_known(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"a-1-0": [FOUND], "a-1-1": [UNKNOWN, FAILED, FOUND]}
    asked = []

    async def main() -> None:
        with resolver(monkeypatch) as made, trio.fail_after(20):
            listening = trio.socket.from_stdlib_socket(made.dup())
            async with trio.open_nursery() as nursery:

                async def serve() -> None:
                    while True:
                        text, who = await listening.recvfrom(512)
                        asked.append(name_in(text))
                        await listening.sendto(answer(text, FOUND, 1 ^ int.from_bytes(text[:2], "big")), who)
                        await listening.sendto(answer(text, says[name_in(text)].pop(0)), who)

                nursery.start_soon(serve)
                await until_found(os.getpid(), ["a-1-0", "a-1-1"])
                nursery.cancel_scope.cancel()
            listening.close()

    run(main)
    assert asked == ["a-1-0", "a-1-1", "a-1-1", "a-1-1"]


def test_it_does_not_wait_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fellows, "PATIENCE_S", 0.05)

    async def main() -> None:
        with resolver(monkeypatch), trio.fail_after(20):
            await until_found(os.getpid(), ["a-1-0"])

    run(main)


def test_what_cannot_be_asked_holds_nobody_up(run: Run) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            await until_found(2**22 + 1, ["a-1-0"])

    run(main)
