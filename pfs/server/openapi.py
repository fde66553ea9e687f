"""The OpenAPI document: what the server can be asked over HTTP, made of what its doors say themselves.

A mount's channel is a WebSocket and not in it, and neither is what runs beside that (`pfs.server.bulk`).
"""

from collections.abc import Sequence

from pfs.accounts.store import KeyKind
from pfs.protocol.wire import Json
from pfs.server.doors import BYTES, JSON, OWN, Asks, Body, Door, Face, Tells

OPENAPI_PATH = "/api/v1/openapi.json"
OPENAPI_V2_PATH = "/api/v2/openapi.json"
TOKEN = "token"
BASIC = "basic"  # of clients of PaddleCloud, at their own doors
SCHEMES = {TOKEN: "bearer", BASIC: "basic"}


def document(doors: Sequence[Door]) -> Json:
    """Return what `doors` are, in OpenAPI 3.1."""
    paths: dict[str, Json] = {}
    for door in doors:
        paths.setdefault(door.path_format, {})[door.method.lower()] = _operation(door)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pfs", "version": "1"},
        "components": {"securitySchemes": {name: {"type": "http", "scheme": how} for name, how in SCHEMES.items()}},
        "paths": paths,
    }


def _operation(door: Door) -> Json:
    found: Json = {"summary": door.about, "responses": {**_responses(door.tells), "default": _error(door.face)}}
    parameters = _parameters(door)
    if parameters:
        found["parameters"] = parameters
    if door.body.bytes_max:
        found["requestBody"] = _body(door.body)
    if door.kinds:
        found["security"] = [{TOKEN: []}, *([] if door.face is OWN else [{BASIC: []}])]
        found["description"] = f"For keys of: {', '.join(kind.value for kind in KeyKind if kind in door.kinds)}."
    return found


def _parameters(door: Door) -> list[Json]:
    asks: Asks = door.asks
    where = (("query", asks.query), ("header", asks.headers))
    named = [("path", name, "") for name in door.param_convertors]
    named += [(place, name, about) for place, names in where for name, about in names.items()]
    return [
        {"in": place, "name": name, "required": place == "path", "description": about, "schema": {"type": "string"}}
        for place, name, about in named
    ]


def _body(body: Body) -> Json:
    text = f"at most {body.bytes_max} bytes"
    media = body.media or ((BYTES,) if body.schema is None else (JSON,))
    content = {each: {} if body.schema is None else {"schema": body.schema} for each in media}
    return {"description": text, "required": True, "content": content}


def _error(face: Face) -> Json:
    return {"description": "why not", "content": {JSON: {"schema": face.schema}}}


def _responses(tells: Sequence[Tells]) -> Json:
    found: Json = {}
    for each in tells:
        response = found.setdefault(str(each.status), {"description": each.about})
        if each.media:
            schema = {} if each.schema is None else {"schema": each.schema}
            response.setdefault("content", {})[each.media] = schema
    return found
