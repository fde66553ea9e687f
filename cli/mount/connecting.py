"""The servers of a mount, which are looked for all at once, so that none keeps the others waiting.

there    it answers
away     it cannot be reached. Its folder is there, and what is asked there is ETIMEDOUT until it answers
else     it does not let us in, or is another one than it should be. That does not heal by itself: it is left out

Of each that is not there a line says why. Where none is there, nothing is mounted: who has typed it can do something.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from cli.mount.choosing import none_left
from cli.mount.options import Options
from fuseclient.kernel.identity import Ids
from pfs.client.authority import StrangerError
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.config import Datacenter

OTHERS_S = 5.0  # that servers have left to answer when the first one has

Tell = Callable[[str], None]


async def connected(
    datacenters: "Mapping[str, Datacenter]", options: Options, stack: AsyncExitStack, tell: Tell
) -> dict[str, RemoteFileSystem]:
    """Return the trees that can be mounted, by the names of their datacenters, for as long as the stack lasts.

    Args:
        tell: takes a line for people.

    Raises:
        PfsError: no server is there, and why; or the options are not for who one is there.
    """
    found, hindrances = await _opened(datacenters, options, stack)
    hindrances |= await _hindrances(found)
    hindrances = {name: _with_cure(datacenters[name], why, options) for name, why in hindrances.items()}
    if len(hindrances) == len(datacenters):
        raise none_left(hindrances, tell)
    numeric = options.ids is Ids.NUMERIC
    for name, why in hindrances.items():
        if _is_away(why) and not numeric:
            tell(f"{name} is away: {why}; its folder is there, and works as soon as the server answers")
        else:
            tell(f"{name} is left out: {why}")
            if (tree := found.pop(name, None)) is not None:
                tree.give_up()
    if numeric:
        _check_administrator(datacenters, found)
    return found


async def _opened(
    datacenters: "Mapping[str, Datacenter]", options: Options, stack: AsyncExitStack
) -> tuple[dict[str, RemoteFileSystem], dict[str, PfsError]]:
    """Begin to look for all servers; return the trees, and why there are none of some."""
    found, hindrances = {}, {}
    for name, each in datacenters.items():
        said = each.endpoint, each.token, each.ca
        opening = open_filesystem(*said, shortcut=options.shortcut, streams=options.streams, own=each.own, patient=True)
        try:
            found[name] = await stack.enter_async_context(opening)
        except PfsError as error:
            hindrances[name] = error
    return found, hindrances


def _check_administrator(datacenters: "Mapping[str, Datacenter]", found: Mapping[str, RemoteFileSystem]) -> None:
    for name, tree in found.items():
        if not tree.standing().admin:
            who = f"{datacenters[name].username} is none at {datacenters[name].endpoint}"
            reason = f"the server's own numbers are for administrators: {who}; leave ids=numeric away"
            raise PfsError(Kind.DENIED, reason)


async def _hindrances(trees: Mapping[str, RemoteFileSystem]) -> dict[str, PfsError]:
    """Look for servers; return why there is no connection to some of them."""
    silent = {name: f"the server at {tree.standing().url} does not answer" for name, tree in trees.items()}
    found = {name: PfsError(Kind.UNREACHABLE, why) for name, why in silent.items()}
    with trio.CancelScope() as scope:

        async def begin(name: str, tree: RemoteFileSystem) -> None:
            try:
                await tree.begun()
            except PfsError as why:
                found[name] = why
            else:
                del found[name]
                scope.deadline = min(scope.deadline, trio.current_time() + OTHERS_S)

        async with trio.open_nursery() as nursery:
            for name, tree in trees.items():
                nursery.start_soon(begin, name, tree)
    return found


def _is_away(why: PfsError) -> bool:
    return why.kind is Kind.UNREACHABLE and not isinstance(why, StrangerError)


def _with_cure(where: "Datacenter", why: PfsError, options: Options) -> PfsError:
    """Say what helps who is not let in, where that is a token of the user's configuration."""
    if why.kind is not Kind.UNAUTHENTICATED or not where.token or options.config is not None:
        return why
    return why.saying(f"{why.message}; get another with `paddle login --dc {where.name}`, and mount again")
