"""The door through which clients ship trees (`jobd.manifest`), beside that of files.

    PUT  /api/v1/trees/<id>      body: the list of the tree
                                 → {"missing": {<hash>: <bytes that came already>, …}}
    POST /api/v1/trees/contents  body: records, each a line and the bytes of a content, as many as one likes
                                 → {"taken": <records>}

What came of a request that was cut stays. A job is submitted with `src: tree:<id>` once nothing is missing.
"""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import trio
from starlette.requests import Request
from starlette.responses import Response

from jobd.manifest import MANIFEST_BYTES_MAX
from jobd.store.trees import TreeStore
from pfs.accounts.store import Identity
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Verb, allowed
from pfs.server.bodies import body_of
from pfs.server.doors import JSON, Body, Door, Tells, an_object, json_response
from pfs.server.routes import Gate

TREES_PATH = "/api/v1/trees"
CONTENTS_PATH = f"{TREES_PATH}/contents"
CONTENTS_BYTES_MAX = 1 << 40
FED_BYTES = 512 * 1024
SHIPPING_MAX = 4  # requests of one account at once


def tree_routes(gate: Gate, trees: TreeStore) -> list[Door]:
    """Return the routes of this module's docstring."""
    doors = _Doors(trees)
    taken = an_object({"taken": {"type": "integer"}})
    missing = an_object({"missing": {"type": "object", "additionalProperties": {"type": "integer"}}})
    return [
        gate.door(
            "POST",
            CONTENTS_PATH,
            doors.contents,
            about="contents of trees that are shipped",
            body=Body(CONTENTS_BYTES_MAX),
            tells=[Tells(200, "how many", JSON, taken)],
        ),
        gate.door(
            "PUT",
            TREES_PATH + "/{id}",
            doors.manifest,
            about="the list of a tree that is shipped",
            body=Body(MANIFEST_BYTES_MAX),
            tells=[Tells(200, "contents that are missing", JSON, missing)],
        ),
    ]


class _Doors:
    def __init__(self, trees: TreeStore) -> None:
        self._trees = trees
        self._shipping: dict[str, int] = {}

    async def manifest(self, request: Request, identity: Identity) -> Response:
        """Take the list of a tree."""
        user, text = _shipper(identity), bytearray()
        with self._turn(user):
            async with aclosing(body_of(request)) as body:
                async for piece in body:
                    text += piece
            missing = await self._trees.put(user, request.path_params["id"], bytes(text))
        return json_response({"missing": missing})

    async def contents(self, request: Request, identity: Identity) -> Response:
        """Take contents."""
        user = _shipper(identity)
        receiver = self._trees.receive(user)
        with self._turn(user):
            try:
                came = bytearray()
                async with aclosing(body_of(request)) as body:
                    async for piece in body:
                        came += piece
                        if len(came) >= FED_BYTES:  # each time is a change of threads
                            await receiver.feed(bytes(came))
                            came.clear()
                await receiver.feed(bytes(came))
            except BaseException:
                with trio.CancelScope(shield=True):
                    await receiver.give_up()
                raise
            await receiver.close()
        return json_response({"taken": receiver.taken})

    @contextmanager
    def _turn(self, user: str) -> Iterator[None]:
        """Count a request of an account while it is answered."""
        if self._shipping.get(user, 0) >= SHIPPING_MAX:
            raise PfsError(Kind.TOO_MANY, f"{user} ships {SHIPPING_MAX} trees already; wait for one of them")
        self._shipping[user] = self._shipping.get(user, 0) + 1
        try:
            yield
        finally:
            self._shipping[user] -= 1


def _shipper(identity: Identity) -> str:
    if not allowed(identity.subject, Verb.WRITE, SERVICE):
        raise PfsError(Kind.DENIED, "this token is not for jobs; take one with the scope submit")
    return identity.subject.user
