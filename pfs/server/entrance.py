"""How people come in: a password gives a token for one machine, and whoever has a token looks after their account.

    POST   /api/v1/login          {"user", "password", "machine"} → {"datacenter", "user", "token"}
    POST   /api/v1/register       the same, "fullname", "email" and "invitation" → 201 and the same
    GET    /api/v1/users/<name>   whether there is such an account: 204 or 404; where everybody may register
    POST   /api/v1/password       {"password", "new"}; all other tokens of the account are taken back
    GET    /api/v1/tokens         → {"tokens": [{"name", "kind", "label", "scopes", "created", "used", "ends", "own"}]}
    POST   /api/v1/tokens         {"label", "scopes", "days"} → 201 {"token"}, for a script
    DELETE /api/v1/tokens/<name>  one that is one's own; `own` is the one that is shown
    POST   /api-token-auth        {"username", "password"}, or a form of these → {"token"}: as PaddleCloud's clients do

The first three and the last are the only ones that anybody may ask. Wrong passwords make their sender slower
(`pfs.accounts.throttle`), and whatever is wrong with a name or a password is told in the same words after the same
work.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.keyring import DAY_NS, NAME_CHARACTERS, KnownKey, key_name
from pfs.accounts.passwords import Passwords, parameters
from pfs.accounts.person import Person, check_email, check_fullname
from pfs.accounts.registration import Registration
from pfs.accounts.store import Accounts, Identity, KeyKind, Terms
from pfs.accounts.strength import CHARACTERS_MAX, check_password, normal
from pfs.accounts.throttle import Attempt, Throttle, source_of
from pfs.errors import Kind, PfsError
from pfs.names import check_user_name
from pfs.perm import EVERYTHING, Scope, Subject, Thing, ThingKind, Verb, allowed
from pfs.protocol.wire import Json
from pfs.server.basic import LABEL, Basic
from pfs.server.bodies import text_in, whole_object
from pfs.server.doors import JSON, NOTHING, Body, Door, Tells, an_object
from pfs.server.rest import FORM, REST, form_of, is_form
from pfs.server.routes import Gate, json_response, shown

LOGIN_PATH = "/api/v1/login"
REGISTER_PATH = "/api/v1/register"
PASSWORD_PATH = "/api/v1/password"
USERS_PATH = "/api/v1/users"
TOKEN_AUTH_PATH = "/api-token-auth"
TOKENS_PATH = "/api/v1/tokens"
OWN = "own"
DAYS_MAX = 3650
BODY_BYTES_MAX = 16 * 1024
_TEXT = {"type": "string"}
_SCOPES = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": sorted(EVERYTHING)}}
_DAYS = {"type": ["integer", "null"], "minimum": 1, "maximum": DAYS_MAX}
_TOKENS = an_object({"tokens": {"type": "array", "items": an_object({"name": _TEXT, "kind": _TEXT, "label": _TEXT})}})
KEY_NAME = re.compile(f"[0-9a-f]{{{NAME_CHARACTERS}}}")
REGISTERING = "~register"  # no account's name

WRONG = "this is no user's name with their password; check both"


class Entrance:
    """Answers the routes of this module's docstring.

    Args:
        datacenter: its name.
        where: tells what new tokens say of where the server is (`pfs.keys.where_of`).
        mode: tells whether people may register.
        settle: makes what belongs to an account, such as its home, where it is not there yet.
        changed: tells everything that knows accounts that one was changed.
        clock: seconds of a clock that does not go back.
    """

    def __init__(
        self,
        accounts: Accounts,
        gate: Gate,
        *,
        datacenter: str,
        where: Callable[[], Awaitable[str]],
        mode: Callable[[], Awaitable[Registration]],
        settle: Callable[[Subject], Awaitable[None]],
        changed: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accounts = accounts
        self._gate = gate
        self._datacenter = datacenter
        self._where = where
        self._mode = mode
        self._settle = settle
        self._changed = changed
        self._clock = clock
        self._passwords = Passwords()
        self._throttle = Throttle()
        gate.basic = Basic(self._token_for, gate.identity)

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        door = self._gate.door
        named = _texts("user", "password", optional=("machine",))
        came_in = Tells(200, "welcome", JSON, _texts("datacenter", "user", "token"))
        return [
            Door("POST", LOGIN_PATH, self._login, about="a token for a password", body=_body(named), tells=[came_in]),
            Door(
                "POST",
                TOKEN_AUTH_PATH,
                self._authenticate,
                about="a token for a password, for clients of PaddleCloud",
                body=Body(BODY_BYTES_MAX, _texts("username", "password"), (JSON, FORM)),
                tells=[Tells(200, "welcome", JSON, _texts("token"))],
                face=REST,
            ),
            Door(
                "POST",
                REGISTER_PATH,
                self._register,
                about="a new account, where that may be",
                body=_body(_texts("user", "password", optional=("fullname", "email", "machine", "invitation"))),
                tells=[replace(came_in, status=201)],
            ),
            Door(
                "GET",
                USERS_PATH + "/{name}",
                self._exists,
                about="is a name taken",
                body=NOTHING,
                tells=[Tells(204, "it is")],
            ),
            door(
                "POST",
                PASSWORD_PATH,
                self._change_password,
                about="another password; all other tokens are taken back",
                body=_body(_texts("new", optional=("password",))),
                tells=[Tells(204, "changed")],
            ),
            door(
                "GET",
                TOKENS_PATH,
                self._list,
                about="one's tokens",
                body=NOTHING,
                tells=[Tells(200, "all of them", JSON, _TOKENS)],
            ),
            door(
                "POST",
                TOKENS_PATH,
                self._make,
                about="a token for a script",
                body=_body(an_object({"label": _TEXT}, {"scopes": _SCOPES, "days": _DAYS})),
                tells=[Tells(201, "made", JSON, _texts("token"))],
            ),
            door(
                "DELETE",
                TOKENS_PATH + "/{name}",
                self._take_back,
                about="take a token back",
                body=NOTHING,
                tells=[Tells(204, "gone")],
            ),
        ]

    async def _login(self, request: Request) -> Response:
        asked = await whole_object(request)
        return json_response(await self._let_in(request, text_in(asked, "user"), asked))

    async def _authenticate(self, request: Request) -> Response:
        asked = await (form_of(request) if is_form(request) else whole_object(request))
        welcome = await self._let_in(request, text_in(asked, "username"), asked)
        return json_response({"token": welcome["token"]})

    async def _token_for(self, request: Request, user: str, password: str) -> str:
        return str((await self._let_in(request, user, {"password": password, "machine": LABEL}))["token"])

    async def _let_in(self, request: Request, user: str, asked: Json) -> Json:
        """Return what somebody needs who shows a name and its password."""
        password = text_in(asked, "password")
        hashed, is_there = await self._accounts.password(user)
        # what is no account's name may be a password that was typed in the wrong place
        async with self._accounts.audit.about("login", f"users/{user}" if is_there else "users/?"):
            await self._prove(request, user, password, hashed)
            there = await self._accounts.user(user)  # a question more or less tells nobody anything from here on
            if there is None:
                raise PfsError(Kind.UNAUTHENTICATED, WRONG)
        await self._settle(there)  # should the server have died between an account and its home
        return await self._welcome(user, asked)

    async def _register(self, request: Request) -> Response:
        asked = await whole_object(request)
        user, password, shown = text_in(asked, "user"), text_in(asked, "password"), text_in(asked, "invitation", "")
        person = Person(check_fullname(text_in(asked, "fullname", "")), check_email(text_in(asked, "email", "")))
        mode = await self._mode()
        async with self._accounts.audit.refusing("register", "users/?"):
            attempt = self._throttle.attempt(REGISTERING, _source(request), self._clock())
            await trio.sleep(attempt.held_s)
            await self._accounts.check_may_register(mode, shown)
            good = check_password(password, check_user_name(user))
            with self._taken_back_without_room(attempt):
                hashed = await self._passwords.hash(good)
            made = await self._accounts.register(mode, shown, user, hashed, person)
        await self._settle(made)
        await self._changed()
        return json_response(await self._welcome(user, asked), 201)

    async def _exists(self, request: Request) -> Response:
        """Tell what who tries to register is told as well."""
        if await self._mode() is not Registration.OPEN:
            raise PfsError(Kind.DENIED, "who has an account here is told to nobody")
        await trio.sleep(self._throttle.attempt(REGISTERING, _source(request), self._clock()).held_s)
        if await self._accounts.user(request.path_params["name"]) is None:
            raise PfsError(Kind.NOT_FOUND, "nobody has this name")
        return Response(status_code=204)

    async def _change_password(self, request: Request, identity: Identity) -> Response:
        _check_may_manage(identity)
        asked, user = await whole_object(request), identity.subject.user
        new = check_password(text_in(asked, "new"), user)
        before, _ = await self._accounts.password(user)
        async with self._accounts.audit.refusing("password.set", f"users/{user}"):
            if before is None:
                await self._check_is_whole(request, identity)
            else:
                before = await self._prove(request, user, text_in(asked, "password"), before)
        hashed = await self._passwords.hash(new)
        await self._accounts.set_password(user, hashed, before=before, kept=shown(request))
        await self._changed()
        return Response(status_code=204)

    async def _list(self, request: Request, identity: Identity) -> Response:
        own, keys = key_name(shown(request)), await self._accounts.keys(identity.subject.user)
        return json_response({"tokens": [_facts(key, own) for key in keys]})

    async def _make(self, request: Request, identity: Identity) -> Response:
        asked, user = await whole_object(request), identity.subject.user
        async with self._accounts.audit.refusing("token.make", f"users/{user}"):
            _check_may_manage(identity)
            days = await self._days_left(request, user, _days(asked))
        terms = Terms(text_in(asked, "label"), _scopes(asked) & identity.subject.scopes, days)
        key = await self._accounts.make_key(KeyKind.USER, user, await self._where(), terms)
        await self._changed()  # one that was not used for longest may have gone for it
        return json_response({"token": key}, 201)

    async def _days_left(self, request: Request, user: str, days: int | None) -> int | None:
        """Return for how long a token may be that is made with the one that is shown: no longer than that one itself.

        Raises:
            PfsError: DENIED when it ends within a day.
        """
        end_ns = await self._end_ns(request, user)
        if end_ns is None:
            return days
        left = (end_ns - time.time_ns()) // DAY_NS
        if left < 1:
            raise PfsError(Kind.DENIED, "this token ends within a day; log in for another one")
        return int(left) if days is None else min(days, int(left))

    async def _end_ns(self, request: Request, user: str) -> int | None:
        own = key_name(shown(request))
        return next((key.expires_at_ns for key in await self._accounts.keys(user) if key.name == own), None)

    async def check_own(self, request: Request, identity: Identity, password: str) -> None:
        """Check that who asks is who came in: by their password, or where they have none by a token that is as good.

        Raises:
            PfsError: DENIED when they are not, TOO_MANY when it is too early to try.
        """
        user = identity.subject.user
        hashed, _ = await self._accounts.password(user)
        if hashed is None:
            await self._check_is_whole(request, identity, "who has no password does this")
            return
        try:
            await self._prove(request, user, password, hashed)
        except PfsError as error:
            if error.kind is Kind.UNAUTHENTICATED:  # which would be said of the token
                raise PfsError(Kind.DENIED, "this is not your own password; nothing was changed") from None
            raise

    async def hashed(self, password: str, user: str) -> str:
        """Return the hash of a password for an account.

        Raises:
            PfsError: INVALID for one that is too easy, TOO_MANY when too many wait.
        """
        return await self._passwords.hash(check_password(password, user))

    async def _check_is_whole(
        self, request: Request, identity: Identity, what: str = "a first password is set"
    ) -> None:
        """Check that a token is good for the account as a whole, and not for a time, or for some things, alone."""
        if identity.subject.scopes == EVERYTHING and await self._end_ns(request, identity.subject.user) is None:
            return
        raise PfsError(Kind.DENIED, f"{what} with a token that may do everything and has no end")

    async def _take_back(self, request: Request, identity: Identity) -> Response:
        own, name, user = key_name(shown(request)), request.path_params["name"], identity.subject.user
        # what cannot be a key's name may be the key itself, which is written down nowhere
        told = name if KEY_NAME.fullmatch(name) else "?"
        async with self._accounts.audit.refusing("token.revoke", f"users/{user}/keys/{told}"):
            if name not in (OWN, own):
                _check_may_manage(identity)
            await self._accounts.revoke(user, own if name == OWN else name)
        await self._changed()
        return Response(status_code=204)

    async def _prove(self, request: Request, user: str, password: str, hashed: str | None) -> str:
        """Return the hash of an account's password, which is the one that is shown.

        Args:
            hashed: what it was until now; None for nobody's.

        Raises:
            PfsError: UNAUTHENTICATED when it is not, TOO_MANY when it is too early to try.
        """
        source = _source(request)
        attempt = self._throttle.attempt(user[:128], source, self._clock())
        with self._taken_back_without_room(attempt):
            right = await self._passwords.verify(normal(password)[: CHARACTERS_MAX + 1], hashed)
        await trio.sleep(attempt.held_s)
        if not right or hashed is None:
            raise PfsError(Kind.UNAUTHENTICATED, WRONG)
        self._throttle.succeeded(user, source, self._clock())
        if hashed.startswith(parameters()):
            return hashed
        anew = await self._passwords.hash(normal(password))
        await self._accounts.rehash(user, anew, before=hashed)
        return anew

    @contextmanager
    def _taken_back_without_room(self, attempt: Attempt) -> Iterator[None]:
        """Take an attempt back where there is nobody free to look at the password: it was not wrong."""
        try:
            yield
        except PfsError:
            self._throttle.take_back(attempt)
            raise

    async def _welcome(self, user: str, asked: Json) -> Json:
        """Return what somebody needs who has just come in."""
        terms = Terms(text_in(asked, "machine", ""))
        token = await self._accounts.make_key(KeyKind.USER, user, await self._where(), terms)
        await self._changed()
        return {"datacenter": self._datacenter, "user": user, "token": token}


def _check_may_manage(identity: Identity) -> None:
    own = Thing(ThingKind.ACCOUNT, identity.subject.user)
    if not allowed(identity.subject, Verb.MANAGE, own):
        raise PfsError(Kind.DENIED, "this token does not reach the account itself; log in for one that does")


def _texts(*required: str, optional: tuple[str, ...] = ()) -> Json:
    """Return the schema of an object with these texts."""
    return an_object(dict.fromkeys(required, _TEXT), dict.fromkeys(optional, _TEXT))


def _body(schema: Json) -> Body:
    return Body(BODY_BYTES_MAX, schema)


def _source(request: Request) -> str:
    return source_of(request.client.host if request.client is not None else "")


def _scopes(asked: Json) -> frozenset[Scope]:
    words: Any = asked.get("scopes", sorted(EVERYTHING))
    known = {str(scope) for scope in EVERYTHING}
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word in known for word in words):
        raise PfsError(Kind.INVALID, f"scopes are a list of: {', '.join(sorted(EVERYTHING))}")
    return frozenset(map(Scope, words)) | {Scope.READ}


def _days(asked: Json) -> int | None:
    days = asked.get("days")
    if days is None:
        return None
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= DAYS_MAX:
        raise PfsError(Kind.INVALID, f"days are a number from 1 to {DAYS_MAX}")
    return days


def _facts(key: KnownKey, own: str) -> Json:
    return {
        "name": key.name,
        "kind": key.kind,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "created": key.created_at_ns,
        "used": key.used_at_ns,
        "ends": key.ends_at_ns,
        "own": key.name == own,
    }
