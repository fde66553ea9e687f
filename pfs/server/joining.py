"""How a machine becomes a node: it shows a join token, and tells the fingerprint of the key that it made for itself.

    POST   /api/v1/nodes/join     {"key", "machine", "name"} → 204, and the key is good for that machine from then on

Whether an answer that was lost said yes, the machine finds out by asking again with its own key: 204 as well.
"""

import json
import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.enrolment import Enrolment
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.protocol.wire import JOIN_PATH, Json
from pfs.server.bodies import whole_body
from pfs.server.doors import Body, Door, Tells, an_object
from pfs.server.routes import Gate, shown

BODY_BYTES_MAX = 4096
_FORMS = {"key": "[0-9a-f]{64}", "machine": "[!-~]{1,64}", "name": "[^\\x00-\\x1f\\x7f]{1,255}"}


class Joining:
    """Answers the route of this module's docstring.

    Args:
        changed: tells everything that knows accounts that one was changed.
    """

    def __init__(self, enrolment: Enrolment, gate: Gate, changed: Callable[[], Awaitable[None]]) -> None:
        self._enrolment = enrolment
        self._gate = gate
        self._changed = changed

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        schema = an_object({name: {"type": "string", "pattern": f"^{form}$"} for name, form in _FORMS.items()})
        door = self._gate.door(
            "POST",
            JOIN_PATH,
            self._join,
            about="a machine's own key, with a join token",
            body=Body(BODY_BYTES_MAX, schema),
            tells=[Tells(204, "the key is good")],
            kinds=(KeyKind.JOIN, KeyKind.NODE),
        )
        return [door]

    async def _join(self, request: Request, identity: Identity) -> Response:
        asked = _fields(await whole_body(request))
        if identity.kind is KeyKind.JOIN:
            user, token = identity.subject.user, shown(request)
            await self._enrolment.join(user, token, asked["key"], machine=asked["machine"], name=asked["name"])
            await self._changed()
        return Response(status_code=204)


def _fields(body: bytes) -> dict[str, str]:
    try:
        found: Json = json.loads(body)
        asked = {name: str(found[name]) for name in _FORMS}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PfsError(Kind.INVALID, f"the body is no JSON object with the texts {', '.join(_FORMS)}") from None
    for name, form in _FORMS.items():
        if not re.fullmatch(form, asked[name]):
            raise PfsError(Kind.INVALID, f"the field {name!r} cannot be that: it is {form}")
    return asked
