"""Files that their owners show to everybody: one has a link, and whoever has the link downloads the file.

    POST   /api/v1/publish  {"path"}     "url": the link of a file of one's home; once more is the same link
    GET    /api/v1/publish               "files" and "urls": what one has published
    DELETE /api/v1/publish  {"path"}     the link leads nowhere any more
    GET    /filepub?uuid=…               the file, for anybody

What is shown is the file that stands at the path then, as its owner may read it; an account that is gone shows nothing.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.store import Identity, KeyKind
from pfs.api import NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, DomainKind, Subject, Verb, allowed
from pfs.server.bodies import Head, content, text_in, whole_object
from pfs.server.doors import BYTES, NOTHING, Asks, Door, Tells, an_object
from pfs.server.published import Publication, Published
from pfs.server.reach import Reach
from pfs.server.rest import REST, TEXT, an_array, done, takes, tells
from pfs.server.routes import Gate

PUBLISH_PATH = "/api/v1/publish"
DOWNLOAD_PATH = "/filepub"

About = Callable[[str, str], AbstractAsyncContextManager[None]]


class Publishing:
    """Answers the routes of this module's docstring.

    Args:
        datacenter: its name.
        user: looks an account up.
        endpoint: tells where clients find the server.
        about: records what comes of a block, by what is done and to what.
    """

    def __init__(
        self,
        gate: Gate,
        published: Published,
        *,
        datacenter: str,
        user: Callable[[str], Awaitable[Subject | None]],
        endpoint: Callable[[], Awaitable[str]],
        about: About,
    ) -> None:
        self._gate = gate
        self._published = published
        self._datacenter = datacenter
        self._user = user
        self._endpoint = endpoint
        self._about = about

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        door, asked, lists = self._gate.door, takes(an_object({"path": TEXT})), an_array(TEXT)
        parts = [Tells(206, "a part of it", BYTES), Tells(416, "it has no such part", BYTES)]
        show = tells(url=TEXT)
        return [
            door("POST", PUBLISH_PATH, self._publish, about="a link to a file", body=asked, tells=show, face=REST),
            door(
                "GET",
                PUBLISH_PATH,
                self._list,
                about="one's links",
                body=NOTHING,
                tells=tells(files=lists, urls=lists),
                face=REST,
            ),
            door("DELETE", PUBLISH_PATH, self._take_back, about="no link", body=asked, tells=tells(), face=REST),
            Door(
                "GET",
                DOWNLOAD_PATH,
                self._download,
                about="a published file",
                body=NOTHING,
                tells=[Tells(200, "a file", BYTES), *parts],
                asks=Asks({"uuid": "of the link"}),
                face=REST,
            ),
        ]

    async def _publish(self, request: Request, identity: Identity) -> Response:
        what, reach = await self._asked(request, identity)
        async with self._about("file.publish", what.path):
            if (await reach.fs.getattr(what.path)).type is not NodeType.FILE:
                raise PfsError(Kind.IS_DIR, "should be a file not a directory", what.path)
            name = await self._published.add(what)
        return done(url=self._url(await self._endpoint(), name))

    async def _list(self, request: Request, identity: Identity) -> Response:
        who, endpoint = identity.subject, await self._endpoint()
        own = await self._published.of(who.user, who.uid)
        found, reach = sorted(own.items(), key=lambda each: each[1]), self._reach(identity)
        files, urls = [reach.told(path) for _, path in found], [self._url(endpoint, name) for name, _ in found]
        return done(files=files, urls=urls)

    async def _take_back(self, request: Request, identity: Identity) -> Response:
        what, _ = await self._asked(request, identity)
        async with self._about("file.unpublish", what.path):
            if not await self._published.take_back(what):
                raise PfsError(Kind.NOT_FOUND, "this file is not published", what.path)
        return done()

    async def _asked(self, request: Request, identity: Identity) -> tuple[Publication, Reach]:
        """Return which file is meant, which is in the home of whoever asks, to be changed by them."""
        who, reach = identity.subject, self._reach(identity)
        path = await reach.to_change(text_in(await whole_object(request), "path"))
        if not path.startswith(f"{DomainKind.HOME}/{who.user}/"):
            raise PfsError(Kind.FORBIDDEN, "one publishes files of one's own home", path)
        if not allowed(who, Verb.WRITE, Domain(DomainKind.HOME, who.user)):
            raise PfsError(Kind.DENIED, "this token is not for changes; take one with the scope write")
        return Publication(who.user, who.uid, path), reach

    async def _download(self, request: Request) -> Response:
        found = await self._published.find(request.query_params.get("uuid", ""))
        owner = None if found is None else await self._user(found.user)
        if found is None or owner is None or owner.uid != found.number:
            raise PfsError(Kind.NOT_FOUND, "no file is published here (any more)")
        tree = self._gate.files(Identity(KeyKind.USER, replace(owner, admin=False)))
        try:
            if request.method == "HEAD":
                return Head(await tree.getattr(found.path))
            return content(await tree.open(found.path, OpenFlags.READ, 0), request)
        except PfsError as error:
            raise PfsError(Kind.NOT_FOUND, "no file is published here (any more)") from error

    def _reach(self, identity: Identity) -> Reach:
        return Reach(self._gate.files(identity), self._datacenter)

    def _url(self, endpoint: str, name: str) -> str:
        return f"{endpoint.rstrip('/')}{DOWNLOAD_PATH}/?uuid={name}"
