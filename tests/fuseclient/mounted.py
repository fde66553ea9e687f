"""A mount of file systems in memory in a process of its own, for tests on a real kernel.

python -m tests.fuseclient.mounted serve POINT IDENTITY [allow_other]            obeys its standard input
python -m tests.fuseclient.mounted mount|umount POINT ENDPOINT TOKEN [OPTION]…   is the command of the product
"""

import base64
import inspect
import os
import pickle
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from fuseclient import mount
from fuseclient.kernel.identity import Ids
from pfs.api import Standing
from pfs.errors import Kind, PfsError
from tests.memoryfs import MemoryFileSystem, MemoryNode


def serve(point: str, identity: Ids, *, allow_other: bool) -> None:
    """Mount two file systems at `point`, and do what standard input says."""
    filesystems = {dc: MemoryFileSystem(commits=lambda path: path.startswith("drops/")) for dc in ("dc1", "dc2")}
    for filesystem in filesystems.values():
        filesystem.make_directory("drops")

    async def obey() -> None:
        lines = trio.lowlevel.FdStream(os.dup(0))
        buffer = b""
        async for data in lines:
            *complete, buffer = (buffer + data).split(b"\n")
            for line in complete:
                say(pickle.dumps(await answer(*pickle.loads(base64.b64decode(line)))))

    async def answer(dc: str, what: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        filesystem = filesystems[dc]
        if what == "set":
            return setattr(filesystem, *args)
        if what == "put_many":
            return [filesystem.put(path) for path in args[0]] and None
        member = getattr(filesystem, what)
        result = member(*args, **named) if callable(member) else member
        result = await result if inspect.isawaitable(result) else result
        return None if isinstance(result, MemoryNode) else result

    def say(data: bytes) -> None:
        os.write(1, base64.b64encode(data) + b"\n")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey)
            await mount.run(filesystems, point, allow_other=allow_other, identity=identity, ready=lambda: say(b"ready"))
            nursery.cancel_scope.cancel()

    trio.run(main)


class Dialled(MemoryFileSystem):
    """What has to be reached first."""

    def __init__(self, endpoint: str, token: str) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._token = token

    async def begun(self) -> None:
        """Return when it has been."""
        if self._endpoint == "down":
            raise PfsError(Kind.UNREACHABLE, "no connection to the server at down")
        if self._endpoint == "slow":
            await trio.sleep(3)
        if self._token == "wrong":
            raise PfsError(Kind.UNAUTHENTICATED, "the server does not accept this token")

    def standing(self) -> Standing:
        """Tell where it is."""
        return Standing(self._endpoint, connected=True, since_s=0.0, admin=False)


def command(arguments: list[str]) -> int:
    """Run `paddle mount` or `paddle umount` over file systems in memory; an endpoint may be down or refuse."""
    import click

    from cli import config
    from cli.mount.command import mount_command
    from cli.mount.options import Options
    from cli.mount.umount import umount_command
    from pfs.client import filesystem as client

    @asynccontextmanager
    async def open_filesystem(
        endpoint: str, token: str, ca: str | None = None, **how: object
    ) -> AsyncIterator[MemoryFileSystem]:
        yield Dialled(endpoint, token)

    client.open_filesystem = open_filesystem  # type: ignore[assignment]
    verb, point, endpoint, token, *options = arguments
    datacenter = config.Datacenter("dc1", "ann", token, endpoint, None)
    config.load = lambda path=None: config.Config({"dc1": datacenter}, "dc1")
    try:
        if verb == "umount":
            return umount_command(point, lazy="--lazy" in options)
        return mount_command(point, Options(cache_bytes=0), foreground="-f" in options)
    except click.ClickException as error:
        error.show()
        return error.exit_code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], Ids(sys.argv[3]), allow_other="allow_other" in sys.argv[4:])
    else:
        sys.exit(command(sys.argv[1:]))
