"""The services of a datacenter for Python programs, and for our own commands, which use the same.

    from cli.sdk import Client

    with Client() as client:
        job = client.submit({"command": "python train.py", "resources": "[gtx1070]"})
        for piece in client.log(job):
            sys.stdout.buffer.write(piece)
        code = client.wait(job)

`AsyncClient` is the same for asyncio and trio. What goes wrong is a `PfsError` with a `Kind`. Nothing here prints.

What a method of these does about jobs is a function of `operations` or `packages`, which the command for it calls, too
(`way.asked`). Where a method only passes something on to the tree, as `mkdir` and `rm` do, so does the command; and
files are copied for both by `cli.files`.

sync, aio   the two faces    | operations, files, packages  what each service does  | rows  what is told, with types
reaching    which datacenter is meant                    | way  what services need of a program
"""

from typing import TYPE_CHECKING, Any

from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.sdk.aio import AsyncClient
    from cli.sdk.packages import Progress
    from cli.sdk.sync import Client

__all__ = ["AsyncClient", "Client", "Kind", "PfsError", "Progress"]


def __getattr__(name: str) -> Any:
    """Load a face when it is used: an event loop's takes longer to load than a short command runs."""
    match name:
        case "Client":
            from cli.sdk.sync import Client

            return Client
        case "AsyncClient":
            from cli.sdk.aio import AsyncClient

            return AsyncClient
        case "Progress":
            from cli.sdk.packages import Progress

            return Progress
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
