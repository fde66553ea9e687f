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
from starlette.routing import BaseRoute, Route

from jobd.manifest import MANIFEST_BYTES_MAX
from jobd.store.trees import TreeStore
from pfs.accounts import Identity
from pfs.errors import Kind, PfsError
from pfs.server.bodies import body_of
from pfs.server.routes import Gate, json_response

TREES_PATH = "/api/v1/trees"
CONTENTS_PATH = f"{TREES_PATH}/contents"
FED_BYTES = 512 * 1024
SHIPPING_MAX = 4  # requests of one account at once


def tree_routes(gate: Gate, trees: TreeStore) -> list[BaseRoute]:
    """Return the routes of this module's docstring."""
    doors = _Doors(trees)
    return [
        Route(CONTENTS_PATH, gate.guarded(doors.contents), methods=["POST"]),
        Route(TREES_PATH + "/{id}", gate.guarded(doors.manifest), methods=["PUT"]),
    ]


class _Doors:
    def __init__(self, trees: TreeStore) -> None:
        self._trees = trees
        self._shipping: dict[str, int] = {}

    async def manifest(self, request: Request, identity: Identity) -> Response:
        """Take the list of a tree."""
        user, text = identity.subject.user, bytearray()
        with self._turn(user):
            async with aclosing(body_of(request)) as body:
                async for piece in body:
                    text += piece
                    if len(text) > MANIFEST_BYTES_MAX:
                        raise PfsError(Kind.TOO_LARGE, f"the list of a tree has at most {MANIFEST_BYTES_MAX >> 20} MiB")
            missing = await self._trees.put(user, request.path_params["id"], bytes(text))
        return json_response({"missing": missing})

    async def contents(self, request: Request, identity: Identity) -> Response:
        """Take contents."""
        user = identity.subject.user
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
