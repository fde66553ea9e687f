"""Whole files as clients of PaddleCloud's job server ask for them, and who it is that asks.

GET  /api/v1/file?path=…                 the bytes of a file
POST /api/v1/file?path=…                 multipart/form-data, the field `file`: a whole file, and the folders to it
GET  /api/v1/filelist?path=…&dc=…        "items": the names of what is there
GET  /api/v1/token2user                  "user": whose the token is
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.store import FILE_KINDS, Identity
from pfs.api import NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.path import parent_and_name
from pfs.server.bodies import Head, content, write_whole
from pfs.server.doors import BYTES, NOTHING, Asks, Body, Door, Tells
from pfs.server.multipart import MEDIA, Part
from pfs.server.reach import Reach
from pfs.server.rest import REST, TEXT, an_array, done, field_of, tells
from pfs.server.routes import FILE_BYTES_MAX, Gate

FILE_PATH = "/api/v1/file"
LIST_PATH = "/api/v1/filelist"
USER_PATH = "/api/v1/token2user"
FILE = "file"

Answer = Callable[[Request, Identity], Awaitable[Response]]


class SimpleFiles:
    """Answers the routes of this module's docstring.

    Args:
        datacenter: its name, which all paths begin with.
    """

    def __init__(self, gate: Gate, datacenter: str) -> None:
        self._gate = gate
        self._datacenter = datacenter

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        which, taken = Asks({"path": "of the file"}), Body(FILE_BYTES_MAX, media=(MEDIA,))
        parts = [Tells(206, "a part of it", BYTES), Tells(416, "it has no such part", BYTES)]
        gives = [Tells(200, "a file", BYTES), *parts]
        listed = tells(items=an_array(TEXT))
        where = Asks({"path": "of the folder", "dc": "the datacenter"})
        user = self._gate.door(
            "GET", USER_PATH, _tell_user, about="whose a token is", body=NOTHING, tells=tells(user=TEXT), face=REST
        )
        return [
            self._door("GET", FILE_PATH, self._get, "a file", body=NOTHING, tells=gives, asks=which),
            self._door("POST", FILE_PATH, self._post, "a whole file", body=taken, tells=tells(), asks=which),
            self._door("GET", LIST_PATH, self._list, "names in a folder", body=NOTHING, tells=listed, asks=where),
            user,
        ]

    def _door(
        self, method: str, path: str, answer: Answer, about: str, *, body: Body, tells: list[Tells], asks: Asks
    ) -> Door:
        kinds = FILE_KINDS
        return self._gate.door(
            method, path, answer, about=about, body=body, tells=tells, asks=asks, kinds=kinds, face=REST
        )

    async def _get(self, request: Request, identity: Identity) -> Response:
        reach = self._reach(identity)
        path = await reach.to_read(_said(request, reach))
        attr = await reach.fs.getattr(path)
        if attr.type is not NodeType.FILE:
            raise PfsError(Kind.IS_DIR, "should be a file not a directory", path)
        if request.method == "HEAD":
            return Head(attr)
        return content(await reach.fs.open(path, OpenFlags.READ, 0), request)

    async def _post(self, request: Request, identity: Identity) -> Response:
        reach = self._reach(identity)
        path = await reach.to_change(_said(request, reach))
        parent, _ = parent_and_name(path)
        await reach.make_directory(parent)
        await write_whole(reach.fs, path, _bytes_of(request))
        return done()

    async def _list(self, request: Request, identity: Identity) -> Response:
        reach = self._reach(identity)
        if (said := request.query_params.get("dc", self._datacenter)) != self._datacenter:
            raise PfsError(Kind.INVALID, f"no datacenter {said[:80]}; this is {self._datacenter}")
        path = await reach.to_read(_said(request, reach))
        return done(items=[entry.name for entry in await reach.fs.listdir(path)])

    def _reach(self, identity: Identity) -> Reach:
        return Reach(self._gate.files(identity), self._datacenter)


async def _tell_user(request: Request, identity: Identity) -> Response:
    return done(user=identity.subject.user)


async def _bytes_of(request: Request) -> AsyncGenerator[bytes, None]:
    async with aclosing(field_of(request, FILE)) as pieces:
        async for each in pieces:
            if not isinstance(each, Part):
                yield each


def _said(request: Request, reach: Reach) -> str:
    """Return the path that is asked for, which can be one."""
    said = request.query_params.get("path", "")
    if not said:
        raise PfsError(Kind.INVALID, "must specify path")
    try:
        reach.path(said)
    except PfsError as error:
        raise PfsError(Kind.INVALID, f"file path not valid: {said[:200]}: {error.message}") from None
    return said
