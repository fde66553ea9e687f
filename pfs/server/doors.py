"""Doors: the routes of the server, each with all that is to be known of it in one place.

A door is one method of one path: who comes in, what body it takes and how large that may be, and what it tells. The
same words bound requests, are the rows of the table of rights in the tests, and become the OpenAPI document
(`pfs.server.openapi`), so that none of them can say something else. A door that says nothing of its body takes none.

Errors are `{"error": {"kind", "message", "path"}}` with the status of `STATUS_OF_KIND`; doors that speak as another
service does have a `Face` of their own, which says the same in that one's words. A wrong address or
method is no door at all; there whoever speaks nearest to it answers.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pfs.accounts.store import KeyKind
from pfs.audit.origin import LOCAL, acting
from pfs.errors import AllowanceError, Kind, PfsError
from pfs.protocol.defects import told_defect
from pfs.protocol.wire import Json, encode_error
from pfs.server.bodies import BYTES_MAX, HARMLESS

log = logging.getLogger(__name__)

STATUS_OF_KIND = {
    Kind.NOT_FOUND: 404,
    Kind.EXISTS: 409,
    Kind.DENIED: 403,
    Kind.FORBIDDEN: 403,
    Kind.NOT_DIR: 409,
    Kind.IS_DIR: 409,
    Kind.NOT_EMPTY: 409,
    Kind.INVALID: 400,
    Kind.BUSY: 409,
    Kind.STALE: 409,
    Kind.BAD_HANDLE: 409,
    Kind.NAME_TOO_LONG: 400,
    Kind.TOO_LARGE: 413,
    Kind.NO_SPACE: 507,
    Kind.QUOTA: 507,
    Kind.CROSS_DOMAIN: 409,
    Kind.READ_ONLY: 403,
    Kind.LOOP: 400,
    Kind.UNSUPPORTED: 409,  # of what stands there; 501 would say that nobody here can do such a thing
    Kind.UNAUTHENTICATED: 401,
    Kind.TIMED_OUT: 408,
    Kind.UNREACHABLE: 503,
    Kind.WOULD_BLOCK: 409,
    Kind.TOO_MANY: 429,
    Kind.TOO_MANY_LINKS: 409,
    Kind.NO_DATA: 404,
    Kind.IO: 500,
    Kind.INTERNAL: 500,
}
ALLOWANCE_STATUS = 403  # of a quota that is none of storage, which is what 507 says
ADDRESS_PARTS_MAX = 8  # of one that is nowhere, so many are looked at for who speaks there; no door has more of its own
BYTES, TEXT, JSON = "application/octet-stream", "text/plain", "application/json"

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Body:
    """What comes in.

    Attributes:
        bytes_max: a larger one is refused; 0 for a door that takes none.
        schema: of JSON; None for any bytes.
        media: in which forms it is taken; of those that go without saying none is named.
    """

    bytes_max: int
    schema: Json | None = None
    media: Sequence[str] = ()


NOTHING = Body(0)


@dataclass(frozen=True, slots=True)
class Tells:
    """What comes out when all is well.

    Attributes:
        media: "" for an answer without a body.
        schema: of JSON.
    """

    status: int
    about: str
    media: str = ""
    schema: Json | None = None


@dataclass(frozen=True, slots=True)
class Face:
    """How doors of one family speak.

    Attributes:
        refusal: gives an error as JSON, with the status that it is told with.
        schema: of that.
        spelled: gives, for the pattern of a path, that of everything that is understood as the same path.
        roots: addresses at and below which it speaks where no door is nearer.
        status: gives the status that an error is told with in the place of its own, by doors that want a key and
            tell nothing but JSON.
    """

    refusal: Callable[[PfsError, int], Json]
    schema: Json
    spelled: Callable[[str], str] = str
    roots: Collection[str] = ()
    status: Callable[[Request, int], int] = lambda _, status: status


@dataclass(frozen=True, slots=True)
class Asks:
    """What may be said beside path and body: names of the query and of headers, with what they mean."""

    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Door(Route):
    """One method of one path; GET is HEAD as well.

    Args:
        answer: may raise `PfsError`, which becomes an answer.
        kinds: whose keys are looked for by `answer`; none where anybody may ask.
    """

    def __init__(
        self,
        method: str,
        path: str,
        answer: Answer,
        *,
        about: str,
        body: Body,
        tells: Sequence[Tells],
        asks: Asks | None = None,
        kinds: Collection[KeyKind] = (),
        face: Face | None = None,
    ) -> None:
        self.method, self.about, self.body, self.tells, self.kinds = method, about, body, tells, kinds
        self.asks = asks or Asks()
        self.face = face or OWN
        self._answer = answer
        super().__init__(path, self._answered, methods=[method])
        self.path_regex = re.compile(self.face.spelled(self.path_regex.pattern))

    async def _answered(self, request: Request) -> Response:
        try:
            self._check_length(request.headers)
            request.scope[BYTES_MAX] = self.body.bytes_max
            with acting("", source_of_request(request)):
                return await self._answer(request)
        except PfsError as error:
            return self._refused(request, error)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:
            return self._refused(request, told_defect(log, f"answering {request.method} {request.url.path!r}"))

    def _refused(self, request: Request, error: PfsError) -> Response:
        response = error_response(error, self.face)
        if self.kinds and all(each.media == JSON for each in self.tells):
            response.status_code = self.face.status(request, response.status_code)
        return response

    def _check_length(self, headers: Mapping[str, str]) -> None:
        """Refuse what is too large before anything else is done for it; what is of no told length is counted later."""
        most = self.body.bytes_max
        if not most and ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            raise PfsError(Kind.TOO_LARGE, "no body is taken here")
        if int(headers.get("content-length", "0")) > most:
            raise PfsError(Kind.TOO_LARGE, f"at most {most} bytes are taken here")


def application(doors: Sequence[Door]) -> Starlette:
    """Return the application with these doors, and no others; a path or method that is none is told as errors are."""

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path
        if error.status_code != 405:
            return error_response(PfsError(Kind.NOT_FOUND, "there is nothing at this address"), _face_near(doors, path))
        there = {name for door in doors if door.path_regex.match(path) for name in door.methods or ()}
        return method_response(there, _face_near(doors, path))

    return Starlette(routes=doors, exception_handlers={HTTPException: refuse})


def _face_near(doors: Sequence[Door], path: str) -> Face:
    """Return how an address speaks: as the door that is there, or else as what is nearest above it."""
    parts = path.rstrip("/").split("/")[: ADDRESS_PARTS_MAX + 1]
    faces = {id(door.face): door.face for door in doors}.values()
    while len(parts) > 1:
        above = "/".join(parts)
        at_doors = (door.face for door in doors if door.path_regex.match(above))
        found = next(at_doors, None) or next((face for face in faces if above in face.roots), None)
        if found is not None:
            return found
        parts.pop()
    return OWN


def source_of_request(request: Request) -> str:
    """Return the address that a request came from."""
    return LOCAL if request.client is None else request.client.host


def error_response(error: PfsError, face: Face | None = None) -> Response:
    """Return `error` as an answer, as doors of `face` tell it."""
    headers = {"www-authenticate": "Bearer"} if error.kind is Kind.UNAUTHENTICATED else None
    status = status_of(error)
    return json_response((face or OWN).refusal(error, status), status, headers)


def status_of(error: PfsError) -> int:
    """Return the status that an error is told with."""
    return ALLOWANCE_STATUS if isinstance(error, AllowanceError) else STATUS_OF_KIND[error.kind]


def method_response(there: Iterable[str], face: Face | None = None) -> Response:
    """Return the answer to a method that is none of those that are there at an address, as doors of `face` tell it."""
    error = PfsError(Kind.UNSUPPORTED, "this method is not for this address")
    return json_response((face or OWN).refusal(error, 405), 405, {"allow": ", ".join(sorted(there))})


def json_response(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in ASCII: names need not be UTF-8, and escaped they come through."""
    return Response(json.dumps(value, separators=(",", ":")), status, HARMLESS | (headers or {}), JSON)


def an_object(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    """Return the schema of a JSON object."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


KIND: Json = {"type": "string", "enum": [str(kind) for kind in Kind]}
_ERROR = an_object({"kind": KIND, "message": {"type": "string"}, "path": {"type": ["string", "null"]}})
OWN = Face(lambda error, _: {"error": encode_error(error)}, an_object({"error": _ERROR}))
