"""Messages of a channel, damaged at random: whatever comes, it is understood or refused, at either end.

    python -m integration.frames 1000000          so many damaged messages; then a line of figures
    python -m integration.frames 1000000 SEED     the same ones again

They begin with what a mount and a server really say to one another, and with what nodes and servers do. Each is damaged
as bytes, as JSON or in its WebSocket frame, cut into pieces as the network would, and goes through all that reads it:
frames, messages, the server's session and what the client believes of an answer. Only `PfsError` may come out. Nothing
may take longer than a moment, or more memory than a message may have.
"""

import copy
import faulthandler
import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from jobd import wire as nodewire
from jobd.identity import Claim
from pfs.api import Attr, Changes, Closing, NodeType, OpenFlags, RenameMode, Space, XattrMode
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.errors import PfsError
from pfs.protocol import answers, channel, steps
from pfs.protocol.frames import FrameReader, Opcode, encode_message
from pfs.protocol.wire import FRAME_BYTES_MAX, Answer, Ask, Json, decode_frame, encode_frame
from pfs.server.session import FileSession
from tests.pfs.served import datacenter
from tests.pfs.world import World

HANGS_S = 60
MEMORY_BYTES_MAX = 2 * 1024 * 1024 * 1024
ALARM_EVERY = 1000
HOSTILE: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64, -(2**64), 10**400, 1.5, 1e308, float("inf"), float("nan")),
    *(True, False, None, "", "x", "\0", "..", "/", "\ud800", "ä" * 300, "x" * 70_000, "read", "file", "-1", "1e9"),
    *([], {}, [[]], [{}], {"": ""}, [0] * 1000, ["x"] * 1000, {"path": 1}, {"kind": "io"}, [["x", 1]], [[1, "x"]]),
)
NUMBERS = (0, 1, 125, 126, 127, 128, 255, 0x7FFF, 0xFFFF, 0x10000, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)


class Nowhere:
    """A tree of nothing, and an open file: what is asked for properly is refused or answered, and nothing is done."""

    attr = Attr(NodeType.FILE, 1, 0o644, size=10)

    def picture(self) -> bytes:
        """Return all of the file."""
        return b"x"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def refuse(*_: object) -> Any:
            match name:
                case "open" | "reopen":
                    return self
                case "read" | "xattr" | "getxattr":
                    return b"x"
                case "write":
                    return 1
                case "look":
                    return self.attr, b"x"
                case "listdir" | "contents" | "listxattr":
                    return []
                case "readlink":
                    return "x"
                case "statfs":
                    return Space(1, 1, 1, 1)
                case "release" | "flush" | "fsync" | "unlink" | "rmdir" | "rename" | "removexattr" | "setxattr":
                    return None
            return self.attr

        if name.startswith("_"):
            raise AttributeError(name)
        return refuse


# ---- what is really said


@contextmanager
def recording() -> Iterator[list[bytes]]:
    """Give every message that an end of a channel in this process receives."""
    found: list[bytes] = []

    def noting(data: bytes) -> object:
        found.append(data)
        return decode_frame(data)

    channel.decode_frame = noting  # type: ignore[assignment]
    try:
        yield found
    finally:
        channel.decode_frame = decode_frame


async def said_by_mounts(root: Path) -> list[bytes]:
    """Return what a mount and a server say while everything is asked for once."""
    world = World(root)
    try:
        with recording() as found:
            async with datacenter(world) as server, open_filesystem(server.url, "ann-token", shortcut=False) as fs:
                await everything(fs)
    finally:
        world.disk.close()
    return found


async def everything(fs: RemoteFileSystem) -> None:
    top = "home/ann"
    asked: list[Callable[[], Any]] = [
        lambda: fs.make_file(f"{top}/a", 0o644, b"content", Changes(mtime_ns=5)),
        lambda: fs.mkdir(f"{top}/d", 0o755),
        lambda: fs.symlink(f"{top}/l", "a"),
        lambda: fs.mknod(f"{top}/p", NodeType.FIFO, 0o644),
        lambda: fs.link(f"{top}/a", f"{top}/b"),
        lambda: fs.getattr(f"{top}/a"),
        lambda: fs.listdir(top),
        lambda: fs.contents(top, ["a", "b"], 100),
        lambda: fs.readlink(f"{top}/l"),
        lambda: fs.setattr(f"{top}/a", Changes(mode=0o600, size=3)),
        lambda: fs.setxattr(f"{top}/a", "user.x", b"value", XattrMode.EITHER),
        lambda: fs.getxattr(f"{top}/a", "user.x"),
        lambda: fs.listxattr(f"{top}/a"),
        lambda: fs.removexattr(f"{top}/a", "user.x"),
        lambda: fs.statfs(top),
        lambda: fs.fsyncdir(top),
        lambda: fs.rename(f"{top}/b", f"{top}/c", RenameMode.NO_REPLACE),
        lambda: fs.batch([steps.Step(steps.Verb.MAKE_FILE, f"{top}/n", mode=0o644, data=b"new")]),
        lambda: fs.batch([steps.Step(steps.Verb.UNLINK, f"{top}/n"), steps.Step(steps.Verb.RMDIR, f"{top}/no")]),
        lambda: fs.unlink(f"{top}/c"),
        lambda: fs.rmdir(f"{top}/d"),
        lambda: fs.getattr("home/bob/x"),
        lambda: fs.getattr("job/state"),
        lambda: fs.unlink("no/such"),
    ]
    for ask in asked:
        try:
            await ask()
        except PfsError:
            continue
    file = await fs.open(f"{top}/a", OpenFlags.READ | OpenFlags.WRITE, 0o644)
    await file.write(0, b"more content")
    await file.read(0, 100)
    await file.setattr(Changes(size=4))
    await file.getattr()
    await file.fsync()
    await file.flush(Closing.LAST)
    await file.release()


def said_by_nodes() -> list[bytes]:
    """Return what nodes and the server say to one another, and what the server says to mounts by itself."""
    gpu = nodewire.NodeGpu("GPU-1", 0, "H200", 1 << 37)
    reading = nodewire.GpuReading(1, 40, 1 << 30, {17: 1 << 20})
    volume = nodewire.TaskVolume("home/ann", "/pfs", False)
    credential = nodewire.Credential("registry", "ann", "secret")
    assignment = nodewire.Assignment(
        "1.1.0.0", ("sh", "-c", "true"), {"A": "b"}, "/", "host", "image", 1, 1, (70000,), (volume,), 1.0, 1 << 30
    )
    standing = {"1.1.0.0": nodewire.TaskStanding(nodewire.Wanted.RUN)}
    welcome = nodewire.Welcome("cm1", "n0", "c", "cl1", "dc1", "id", standing)
    start = nodewire.encode_assignment(replace(assignment, credential=credential, hosts=(("a", "::1"),)))
    hello = {"claim": nodewire.encode_claim(Claim("n0", "")), "gpus": nodewire.encode_gpus([gpu])}
    gpus = {"gpus": nodewire.encode_gpus([gpu]), "readings": nodewire.encode_readings({"GPU-1": reading})}
    return [
        encode_frame(Ask(1, "node.hello", hello)),
        encode_frame(Ask(2, "node.gpus", gpus)),
        encode_frame(Ask(3, "task.start", {"assignment": start})),
        encode_frame(Answer(1, nodewire.encode_welcome(welcome))),
        encode_frame(Ask(4, "break", {"nodes": [1, 2], "names": [[1, "x"]]})),
    ]


# ---- who reads it


class Reader:
    """Both ends, as far as they read."""

    def __init__(self) -> None:
        self.session = FileSession(Nowhere())  # type: ignore[arg-type]
        self.met: Counter[str] = Counter()

    async def take(self, pieces: list[bytes], *, masked: bool) -> None:
        """Read a stream of frames as a channel does, until it is refused."""
        reader = FrameReader(masked=masked, bytes_max=FRAME_BYTES_MAX)
        try:
            for piece in pieces:
                for message in reader.feed(piece):
                    if message.opcode is Opcode.BINARY:
                        await self.understand(message.data)
        except PfsError:
            self.met["frames refused"] += 1

    async def understand(self, message: bytes) -> None:
        """Read a message; PfsError when it is none."""
        frame = decode_frame(message)
        self.met["understood"] += 1
        if isinstance(frame, Ask):
            for question in self._questions(frame):
                _try(question)
            try:
                await self.session.handle(frame.op, frame.args, frame.body)
                self.met["answered"] += 1
            except PfsError:
                self.met["refused"] += 1
        elif isinstance(frame, Answer):
            for belief in self._beliefs(frame.result, frame.body):
                _try(belief)

    def _questions(self, ask: Ask) -> list[Callable[[], object]]:
        args = ask.args
        return [
            lambda: answers.decode_break(args),
            lambda: nodewire.decode_claim(args.get("claim")),
            lambda: nodewire.decode_gpus(args.get("gpus")),
            lambda: nodewire.decode_readings(args.get("readings")),
            lambda: nodewire.decode_assignment(args.get("assignment")),
        ]

    def _beliefs(self, result: Json, body: bytes) -> list[Callable[[], object]]:
        return [
            lambda: answers.decode_attr(result),
            lambda: answers.decode_page(result, body, "", 0),
            lambda: answers.decode_contents(body),
            lambda: answers.decode_target(result),
            lambda: answers.decode_xattrs(result),
            lambda: answers.decode_space(result),
            lambda: answers.decode_opening(result),
            lambda: answers.decode_piece(body, 100),
            lambda: answers.decode_secret(result),
            lambda: answers.decode_outcomes(result, 1),
            lambda: nodewire.decode_welcome(result),
        ]


def _try(decode: Callable[[], object]) -> None:
    try:
        decode()
    except PfsError:
        return


# ---- damage


class Damage:
    """Makes damaged messages out of whole ones."""

    def __init__(self, corpus: list[bytes], seed: int) -> None:
        self.corpus = corpus
        self.random = random.Random(seed)

    def stream(self) -> tuple[list[bytes], bool]:
        """Return pieces of what arrives, and whether it is masked as from a client."""
        rng, masked = self.random, self.random.random() < 0.5
        message = rng.choice(self.corpus)
        kind = rng.randrange(4)
        if kind == 0:
            message = self._bytes(message)
        elif kind < 3:
            message = self._json(message)
        data = encode_message(Opcode.BINARY, message, rng.randbytes(4) if masked else None)
        if kind == 3 or rng.random() < 0.1:
            data = self._frame(data)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 0, 1, 3))))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)], masked

    def _bytes(self, data: bytes) -> bytes:
        rng, made = self.random, bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(made) + 1)
            match rng.randrange(6):
                case 0 if at < len(made):
                    made[at] ^= 1 << rng.randrange(8)
                case 1:
                    del made[at : at + rng.choice((1, 2, 50))]
                case 2:
                    made[at:at] = rng.randbytes(rng.choice((1, 4, 100)))
                case 3:
                    made[at:at] = made[rng.randrange(len(made) + 1) :][: rng.choice((4, 100, 1000))]
                case 4:
                    made[at:] = rng.choice(self.corpus)[at:]
                case _:
                    number = struct.pack(rng.choice((">Q", ">I", ">H")), rng.choice(NUMBERS) & 0xFFFF)
                    made[at : at + len(number)] = number
        return bytes(made)

    def _frame(self, data: bytes) -> bytes:
        rng = self.random
        match rng.randrange(5):
            case 0:  # another kind, or a part of a message
                return bytes([rng.randrange(256)]) + data[1:]
            case 1:  # another length
                head = struct.pack(">BBQ", data[0], (data[1] & 0x80) | 127, rng.choice(NUMBERS))
                return head + data[2:]
            case 2:  # many parts, some of them empty
                part = bytes([0x02 if rng.random() < 0.5 else 0x00, data[1] & 0x80]) + b"mask"[: 4 * (data[1] >> 7)]
                return part * rng.choice((1, 100, 5000)) + data
            case 3:
                return data + self._bytes(data)
            case _:
                return self._bytes(data[:14]) + data[14:]

    def _json(self, message: bytes) -> bytes:
        (length,) = struct.unpack(">I", message[:4])
        header, body = json.loads(message[4 : 4 + length]), message[4 + length :]
        inner: Any = header.get("args") or header.get("result") or header.get("error") or header
        for _ in range(self.random.choice((1, 1, 2, 5))):
            self._spoil(inner if self.random.random() < 0.9 else header)
        deep = self.random.random() < 0.05  # deeper than anybody should look
        if deep:
            self.random.choice((header, inner))[self.random.choice(("op", "path", "message", "attr"))] = "~"
        text = json.dumps(header).encode()
        if deep:
            levels = self.random.choice((200, 900, 960, 980, 5000))
            text = text.replace(b'"~"', b"[" * levels + b"]" * levels)
        if self.random.random() < 0.2:
            body = self._bytes(body)
        return struct.pack(">I", len(text)) + text + body

    def _spoil(self, value: Any) -> None:
        """Change something in it, as far down as chance goes."""
        rng = self.random
        while True:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            if not keys:
                return
            key = rng.choice(keys)
            below = value[key]
            if not isinstance(below, dict | list) or not below or rng.random() < 0.3:
                break
            value = below
        match rng.randrange(6):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[rng.choice(("ask", "answer", "error", "path", "x"))] = value.pop(key)
            case 2 if isinstance(value, list) and len(value) < 20:
                value *= rng.choice((2, 3, 20))
            case _:
                value[key] = copy.deepcopy(rng.choice(HOSTILE))


# ---- all of it


async def fuzz(count: int, seed: int, root: Path) -> Counter[str]:
    """Read so many damaged messages; raises what none of the readers may raise."""
    corpus = [*await said_by_mounts(root), *said_by_nodes()]
    damage, reader = Damage(corpus, seed), Reader()
    for message in corpus:
        await reader.understand(message)
    whole = reader.met["refused"]
    for number in range(count):
        if number % ALARM_EVERY == 0:
            faulthandler.dump_traceback_later(HANGS_S, exit=True)
        pieces, masked = damage.stream()
        try:
            await reader.take(pieces, masked=masked)
        except Exception as error:
            error.add_note(f"seed {seed}, number {number}, masked {masked}: {b''.join(pieces)[:2000]!r}")
            raise
    faulthandler.cancel_dump_traceback_later()
    reader.met["corpus"], reader.met["refused of the corpus"] = len(corpus), whole
    return reader.met


def main(count: int, seed: int) -> None:
    """Do it once, and print figures."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, hard))
    with tempfile.TemporaryDirectory(prefix="pfs-frames-") as directory:
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began_s = time.process_time()
        met = trio.run(fuzz, count, seed, Path(directory) / "root")
        took_s = time.process_time() - began_s
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) >> 10
    print(f"{count} damaged messages of {met.pop('corpus')} real ones, seed {seed}: none did harm")
    print(f"{took_s:.0f} s of one processor, at most {grown_mib} MiB more memory; {dict(met)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32))
