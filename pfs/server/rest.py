"""The second face of the service: REST v1, as clients of PaddleCloud speak it. Here is what its doors have in common.

    {"code": 200, "msg": "OK"}      most of them; what they tell stands in `msg`, or beside it
    {"err": "", "results": …}       those of files (`pfs.server.pfsfiles`)

The design of PaddleCloud's client says `OK`; the client that was shipped takes every word in `msg` for an error, reads
the list of registries from there, and hears of another status than 200 nothing but its name: that the file is new
which it uploads, or why a job is refused. Both are served: that one is known by the name that Go's HTTP client gives
itself, having no other, and is told `msg` in its own way, and what it asks of files, posts or deletes is refused with
status 200. Where it looks no further than the status, and then for what it asked for, it is told the true one.

An error has the same form, a sentence in the place of `OK` or "", and the true status, which is `code` as well. Every
path is understood with a slash at its end and without, and under `/api/v2` as under `/api/v1`. Addresses and methods
that are none of theirs are refused in the same form: below each of these paths, below `/api/v2`, where nobody else
speaks, below `/api/v1/pfs`, and where PaddleCloud had pages that are not here.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pfs.errors import Kind, PfsError
from pfs.protocol.wire import Json, encode_error
from pfs.server.bodies import body_of, whole_body
from pfs.server.doors import JSON, KIND, Body, Face, Tells, an_object, json_response
from pfs.server.multipart import MEDIA, Part, Parts, boundary_of

OK = "OK"
SHIPPED_AGENT = "Go-http-client/"
ASKED_BYTES_MAX = 64 * 1024
FORM_FIELDS_MAX = 16
FORM = "application/x-www-form-urlencoded"
TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}

# the words of PaddleCloud's clients, who look for them in what they are told
WORDS = {
    Kind.NOT_FOUND: "no such file or directory",
    Kind.EXISTS: "already exist",
    Kind.IS_DIR: "should be a file not a directory",
    Kind.NOT_DIR: "dest should be a directory",
    Kind.DENIED: "what you request is unauthorized",
    Kind.UNAUTHENTICATED: "what you request is unauthorized",
}


def spelled(pattern: str) -> str:
    """Return the pattern of all spellings of a path, given that of the one in the document."""
    return pattern.replace("^/api/v1/", "^/api/v[12]/", 1).removesuffix("$") + "/?$"


def _refusal(error: PfsError, status: int) -> Json:
    return {"code": status, "msg": str(error), "kind": encode_error(error)["kind"]}


def _refusal_of_files(error: PfsError, _: int) -> Json:
    word, told = WORDS.get(error.kind, ""), str(error)
    err = told if word in told else f"{word}: {told}"
    return {"err": err, "results": None, "kind": encode_error(error)["kind"]}


def is_shipped(headers: Headers) -> bool:
    """Tell whether it is the shipped client that asks."""
    return headers.get("user-agent", "").startswith(SHIPPED_AGENT)


def _status(request: Request, status: int) -> int:
    return status if request.method == "GET" else _status_of_files(request, status)


def _status_of_files(request: Request, status: int) -> int:
    return 200 if is_shipped(request.headers) and status != 401 else status


# pages of PaddleCloud's web site, for people who were logged in there; nothing stands here in their place
PAGES = ("/certsgen", "/certsdown", "/notedash", "/notestop")
REST = Face(_refusal, an_object({"code": NUMBER, "msg": TEXT, "kind": KIND}), spelled, ("/api/v2", *PAGES), _status)
FILES = Face(
    _refusal_of_files,
    an_object({"err": TEXT, "results": {"type": "null"}, "kind": KIND}),
    spelled,
    ("/api/v1/pfs", "/api/v2/pfs"),
    _status_of_files,
)


class Done(Response):
    """What is told of something that went well: `msg` as the design has it, or as the shipped client reads it."""

    def __init__(self, said: Json, shipped: Any) -> None:
        super().__init__()
        self._said, self._shipped = said, shipped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer who asks."""
        said = self._said | {"msg": self._shipped} if is_shipped(Headers(scope=scope)) else self._said
        await json_response(said)(scope, receive, send)


def done(msg: Any = OK, *, shipped: Any = None, **more: Any) -> Response:
    """Return the answer to something that went well.

    Args:
        msg: what is told, where `msg` is the place for it.
        shipped: the same for the shipped client; None for `msg`, or for "" where that is `OK`.
        more: what is told beside that.
    """
    if shipped is None:
        shipped = "" if msg == OK else msg
    return Done({"code": 200, "msg": msg, **more}, shipped)


def results(found: Any, err: str = "", **more: Any) -> Response:
    """Return what was found of files.

    Args:
        more: what is told beside that.
    """
    return json_response({"err": err, "results": found, **more})


def tells(msg: Json | None = None, **more: Json) -> list[Tells]:
    """Return what a door tells with `done`, by the schemas of `msg` and of what is beside it."""
    return [Tells(200, "done", JSON, an_object({"code": NUMBER, "msg": msg or TEXT, **more}))]


def tells_results(found: Json, **more: Json) -> list[Tells]:
    """Return what a door tells with `results`."""
    return [Tells(200, "done", JSON, an_object({"err": TEXT, "results": found, **more}))]


def an_array(item: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def takes(schema: Json) -> Body:
    """Return what a door takes that is asked with a JSON object."""
    return Body(ASKED_BYTES_MAX, schema)


def is_form(request: Request) -> bool:
    """Tell whether a body is said to be the form of a web page."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


async def form_of(request: Request) -> Json:
    """Return the fields of a form.

    Raises:
        PfsError: INVALID for a body that is none.
    """
    try:
        return dict(parse_qsl((await whole_body(request)).decode(), max_num_fields=FORM_FIELDS_MAX))
    except ValueError:
        raise PfsError(Kind.INVALID, "the body is no form") from None


def number(said: str, name: str, least: int, most: int) -> int:
    """Return a number that was said.

    Raises:
        PfsError: INVALID when it is none, or out of its bounds.
    """
    if not (said.isascii() and said.isdigit() and len(said) < 20 and least <= int(said) <= most):
        raise PfsError(Kind.INVALID, f"{name} is a number from {least} to {most}, not {said[:40]!r}")
    return int(said)


async def field_of(request: Request, field: str) -> AsyncGenerator[Part | bytes, None]:
    """Yield the only part of a body that is a form, and then its bytes; they are whole when this ends.

    Raises:
        PfsError: INVALID for a body of another form, another field or several, or one that was cut.
    """
    parts = Parts(boundary_of(request.headers.get("content-type", "")))
    begun = False
    async with aclosing(body_of(request)) as body:
        async for data in body:
            for each in parts.feed(data):
                if isinstance(each, Part):
                    if begun or each.field != field:
                        raise PfsError(Kind.INVALID, f"one part is taken here, the field {field}")
                    begun = True
                yield each
    if not begun or not parts.is_whole:
        raise PfsError(Kind.INVALID, f"the body is not whole; it is to be {MEDIA} with the field {field}")
