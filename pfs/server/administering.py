"""Accounts and groups over HTTP: what their owners say of them, and what administrators decide.

    GET    /api/v1/accounts                         → {"accounts": […]}: one's own, for administrators all
    GET    /api/v1/accounts/<name>                  → {"id", "fullname", "email", "groups", "autoshare", "admin"}
    PUT    /api/v1/accounts/<name>                  {"password", "fullname", "email", "admin"} → 201 {"id"}
    POST   /api/v1/accounts/<name>                  some of these and "autoshare": they are changed
    DELETE /api/v1/accounts/<name>                  one's own, or as an administrator anybody's
    GET    /api/v1/groups                           → {"groups": […]}
    GET    /api/v1/groups/<name>                    → {"id", "title"}, for its members and administrators "members"
    PUT    /api/v1/groups/<name>                    {"title"} → 201 {"id"}
    POST   /api/v1/groups/<name>                    {"title"}: it has another one
    DELETE /api/v1/groups/<name>
    PUT    /api/v1/groups/<name>/members/<user>     DELETE: the user is in it no more
    POST   /api/v1/nodes/tokens                     {"node"} → 201 {"token"}: a join token, for a machine of that name

`~` is one's own account. Everybody may say of themselves what does not decide what they may; the rest is for
administrators. Who makes an administrator, or changes a password, shows the password of their own account as
"verification": a token alone that was stolen takes over nobody. What is done here is what the commands of `jobd` do
(`Office`), and the server has taken it up when the answer comes.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import trio
from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.groups import Group
from pfs.accounts.person import Person
from pfs.accounts.store import Account, Accounts, Changed, Identity
from pfs.errors import Kind, PfsError
from pfs.names import OWN_NAMES, check_group_name, check_user_name
from pfs.path import check_name
from pfs.perm import GROUP_NAMES, SERVICE, Domain, DomainKind, Thing, ThingKind, Verb, allowed
from pfs.protocol.wire import Json
from pfs.server.bodies import text_in, whole_object
from pfs.server.doors import JSON, NOTHING, Body, Door, Tells, an_object, json_response
from pfs.server.entrance import BODY_BYTES_MAX, Entrance
from pfs.server.routes import Gate, shown

T = TypeVar("T")
Answer = Callable[[Request, Identity], Awaitable[Response]]

ACCOUNTS_PATH = "/api/v1/accounts"
GROUPS_PATH = "/api/v1/groups"
NODE_TOKENS_PATH = "/api/v1/nodes/tokens"
TOKEN_MINUTES = 60

_TEXT, _YES = {"type": "string"}, {"type": "boolean"}
_SAID = {"type": ["string", "null"]}
_NAMES = {"type": "array", "items": _TEXT}
_PERSON = {"fullname": _TEXT, "email": _TEXT}
_ACCOUNT = an_object(
    {"id": _TEXT, "fullname": _SAID, "email": _SAID, "groups": _NAMES, "autoshare": _NAMES, "admin": _YES}
)
_GROUP = an_object({"id": _TEXT, "title": _SAID}, {"members": _NAMES})
_VERIFIED = {"admin": _YES, "verification": _TEXT}
_NEW = an_object({"password": _TEXT}, {**_PERSON, **_VERIFIED})
_CHANGED = an_object({}, {**_PERSON, **_VERIFIED, "password": _TEXT, "autoshare": _NAMES})
_TITLE = an_object({}, {"title": _TEXT})


class Office(Protocol):
    """Where decisions about accounts, groups and nodes are kept; `jobd` decides the same there. Each takes a while."""

    accounts: Accounts

    def add_account(self, name: str, *, admin: bool, person: Person | None, password: str | None) -> None:
        """Make an account with its home."""

    def remove_user(self, name: str) -> str:
        """Let an account be gone, with all that is kept under its name."""

    def add_group(self, name: str, title: str) -> None:
        """Make a group with its folder."""

    def remove_group(self, name: str) -> str:
        """Let a group be gone, with all that is kept under its name."""

    def join_group(self, name: str, user: str) -> None:
        """Let an account be in a group."""

    def join_token(self, name: str | None, minutes: int, node: str) -> tuple[str, str]:
        """Return a token with which one machine becomes a node."""


class Administering:
    """Answers the routes of this module's docstring.

    Args:
        entrance: looks after passwords.
        changed: tells everything that knows accounts that one was changed, and waits until it is known.
    """

    def __init__(self, office: Office, entrance: Entrance, gate: Gate, changed: Callable[[], Awaitable[None]]) -> None:
        self._office = office
        self._accounts = office.accounts
        self._entrance = entrance
        self._gate = gate
        self._changed = changed

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        accounts, groups = {"accounts": {"type": "array", "items": _ACCOUNT}}, {"groups": _NAMES}
        one, group = ACCOUNTS_PATH + "/{name}", GROUPS_PATH + "/{name}"
        member = group + "/members/{user}"
        told, made, done = (
            partial(Tells, 200, media=JSON),
            Tells(201, "made", JSON, an_object({"id": _TEXT})),
            Tells(204, "done"),
        )
        token = Tells(201, "made", JSON, an_object({"token": _TEXT}))
        return [
            self._door(
                "GET", ACCOUNTS_PATH, self._list, about="accounts", tells=told("all", schema=an_object(accounts))
            ),
            self._door("GET", one, self._tell, about="an account", tells=told("it", schema=_ACCOUNT)),
            self._door("PUT", one, self._add, about="a new account", tells=made, takes=_NEW),
            self._door("POST", one, self._change, about="an account is otherwise", tells=done, takes=_CHANGED),
            self._door("DELETE", one, self._remove, about="an account is gone", tells=done),
            self._door("GET", GROUPS_PATH, self._groups, about="groups", tells=told("all", schema=an_object(groups))),
            self._door("GET", group, self._group, about="a group", tells=told("it", schema=_GROUP)),
            self._door("PUT", group, self._add_group, about="a new group", tells=made, takes=_TITLE),
            self._door("POST", group, self._set_title, about="another title of a group", tells=done, takes=_TITLE),
            self._door("DELETE", group, self._remove_group, about="a group is gone", tells=done),
            self._door("PUT", member, self._join, about="a user is in a group", tells=done),
            self._door("DELETE", member, self._leave, about="a user is in a group no more", tells=done),
            self._door(
                "POST",
                NODE_TOKENS_PATH,
                self._join_token,
                about="a join token for one machine",
                tells=token,
                takes=an_object({"node": _TEXT}),
            ),
        ]

    def _door(
        self, method: str, path: str, answer: Answer, *, about: str, tells: Tells, takes: Json | None = None
    ) -> Door:
        body = NOTHING if takes is None else Body(BODY_BYTES_MAX, takes)
        return self._gate.door(method, path, answer, about=about, body=body, tells=[tells])

    # ---- accounts

    async def _list(self, request: Request, identity: Identity) -> Response:
        found = await trio.to_thread.run_sync(self._accounts.accounts_now)
        mine = [_account(each) for each in found if _may(identity, Verb.READ, each.name)]
        return json_response({"accounts": mine})

    async def _tell(self, request: Request, identity: Identity) -> Response:
        name = _name(request, identity)
        return json_response(_account(await trio.to_thread.run_sync(self._accounts.account_now, name)))

    async def _add(self, request: Request, identity: Identity) -> Response:
        asked, name = await whole_object(request), check_user_name(request.path_params["name"])
        async with self._accounts.audit.refusing("user.add", f"users/{name}"):
            _check_rules(identity)
            person, admin = Person(text_in(asked, "fullname", ""), text_in(asked, "email", "")), _yes(asked, "admin")
            if admin:
                await self._entrance.check_own(request, identity, text_in(asked, "verification", ""))
            password = await self._entrance.hashed(text_in(asked, "password"), name)
        add = partial(self._office.add_account, name, admin=bool(admin), person=person, password=password)
        await self._do(add)
        return json_response({"id": name}, 201)

    async def _change(self, request: Request, identity: Identity) -> Response:
        name, asked = _name(request, identity), await whole_object(request)
        admin, new = _yes(asked, "admin"), asked.get("password")
        what = "user.set" if new is None and admin is None else "user.admin" if new is None else "password.set"
        async with self._accounts.audit.refusing(what, f"users/{name}"):
            _check_may_change(identity, name, asked)
            if new is not None or admin:
                await self._entrance.check_own(request, identity, text_in(asked, "verification", ""))
            changed = Changed(
                fullname=_text(asked, "fullname"),
                email=_text(asked, "email"),
                admin=admin,
                autoshare=_groups(asked),
                password=None if new is None else await self._entrance.hashed(text_in(asked, "password"), name),
                kept=shown(request),
            )
        await self._do(partial(self._accounts.change_now, name, changed))
        return Response(status_code=204)

    async def _remove(self, request: Request, identity: Identity) -> Response:
        name = _name(request, identity)
        async with self._accounts.audit.refusing("user.remove", f"users/{name}"):
            if not _may(identity, Verb.MANAGE, name):
                _check_rules(identity)
            await self._do(partial(self._office.remove_user, name))
        return Response(status_code=204)

    # ---- groups

    async def _groups(self, request: Request, identity: Identity) -> Response:
        may_know = allowed(identity.subject, Verb.READ, GROUP_NAMES)
        return json_response({"groups": await self._accounts.groups() if may_know else []})

    async def _group(self, request: Request, identity: Identity) -> Response:
        found = await trio.to_thread.run_sync(self._accounts.group_now, _group_name(request, identity))
        sees_members = allowed(identity.subject, Verb.READ, Domain(DomainKind.GROUP, found.name))
        return json_response(_group(found) | ({"members": list(found.members)} if sees_members else {}))

    async def _add_group(self, request: Request, identity: Identity) -> Response:
        asked, name = await whole_object(request), check_group_name(request.path_params["name"])
        add = partial(self._office.add_group, name, text_in(asked, "title", ""))
        await self._decide(identity, "group.add", f"groups/{name}", add)
        return json_response({"id": name}, 201)

    async def _set_title(self, request: Request, identity: Identity) -> Response:
        name, asked = _group_name(request, identity), await whole_object(request)
        change = partial(self._accounts.set_title_now, name, text_in(asked, "title", ""))
        await self._decide(identity, "group.set", f"groups/{name}", change)
        return Response(status_code=204)

    async def _remove_group(self, request: Request, identity: Identity) -> Response:
        name = _group_name(request, identity)
        await self._decide(identity, "group.remove", f"groups/{name}", partial(self._office.remove_group, name))
        return Response(status_code=204)

    async def _join(self, request: Request, identity: Identity) -> Response:
        group, user = check_group_name(request.path_params["name"]), _user(request)
        join = partial(self._office.join_group, group, user)
        await self._decide(identity, "group.join", f"groups/{group}/{user}", join)
        return Response(status_code=204)

    async def _leave(self, request: Request, identity: Identity) -> Response:
        group, user = _group_name(request, identity), _user(request)
        leave = partial(self._accounts.leave_now, group, user)
        await self._decide(identity, "group.leave", f"groups/{group}/{user}", leave)
        return Response(status_code=204)

    # ---- nodes

    async def _join_token(self, request: Request, identity: Identity) -> Response:
        asked = await whole_object(request)

        def make() -> tuple[str, str]:
            return self._office.join_token(None, TOKEN_MINUTES, check_name(text_in(asked, "node")))

        token, _ = await self._decide(identity, "token.make", f"users/{identity.subject.user}", make)
        return json_response({"token": token}, 201)

    # ---- inside

    async def _decide(self, identity: Identity, what: str, on: str, work: Callable[[], T]) -> T:
        """Do what administrators alone decide; that it is refused is recorded."""
        async with self._accounts.audit.refusing(what, on):
            _check_rules(identity)
            return await self._do(work)

    async def _do(self, work: Callable[[], T]) -> T:
        """Do something to the end, though it may take away the right by which it was begun; return once it is known."""
        with trio.CancelScope(shield=True):
            result = await trio.to_thread.run_sync(work)
            await self._changed()
        return result


def _name(request: Request, identity: Identity) -> str:
    """Return the account that is asked for, which is there for whoever asks at most.

    Raises:
        PfsError: NOT_FOUND for one that they may not know of, as for one that is not there.
    """
    name = str(request.path_params["name"])
    if name in OWN_NAMES:
        name = identity.subject.user
    if not _may(identity, Verb.READ, name):
        raise PfsError(Kind.NOT_FOUND, f"there is no user {name!r}")
    return name


def _user(request: Request) -> str:
    return check_user_name(request.path_params["user"])


def _group_name(request: Request, identity: Identity) -> str:
    """Return the group that is asked for, as `_name`."""
    name = check_group_name(request.path_params["name"])
    if not allowed(identity.subject, Verb.READ, GROUP_NAMES):
        raise PfsError(Kind.NOT_FOUND, f"there is no group {name!r}")
    return name


def _may(identity: Identity, verb: Verb, user: str) -> bool:
    return allowed(identity.subject, verb, Thing(ThingKind.ACCOUNT, user))


def _check_rules(identity: Identity) -> None:
    if not allowed(identity.subject, Verb.RULE, SERVICE):
        raise PfsError(Kind.DENIED, "this is for administrators")


def _check_may_change(identity: Identity, name: str, asked: Json) -> None:
    """Check who changes an account: of what decides nothing its user may say all, and administrators whatever it is."""
    verb = Verb.MANAGE if "password" in asked else Verb.COMMAND
    if "admin" in asked or not _may(identity, verb, name):
        _check_rules(identity)


def _text(asked: Json, name: str) -> str | None:
    return text_in(asked, name) if name in asked else None


def _yes(asked: Json, name: str) -> bool | None:
    value = asked.get(name)
    if name in asked and not isinstance(value, bool):
        raise PfsError(Kind.INVALID, f"the field {name!r} is to be true or false")
    return value if isinstance(value, bool) else None


def _groups(asked: Json) -> frozenset[str] | None:
    if "autoshare" not in asked:
        return None
    words = asked["autoshare"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise PfsError(Kind.INVALID, "the field 'autoshare' is to be a list of groups")
    return frozenset(map(check_group_name, words))


def _account(account: Account) -> Json:
    return {
        "id": account.name,
        "fullname": account.person.fullname or None,
        "email": account.person.email or None,
        "groups": sorted(account.groups),
        "autoshare": sorted(account.autoshare),
        "admin": account.admin,
    }


def _group(group: Group) -> Json:
    return {"id": group.name, "title": group.title or None}
