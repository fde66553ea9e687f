"""The client's configuration: which datacenters there are, and who one is there.

`~/.paddle/config` (or the file that `PADDLE_CONFIG` names) is YAML, in the form of PaddleCloud's design:

    dc1:
      username: ann
      token: pfs1.…
      endpoint: https://dc1.example.org:8470

or in that of its client, with the same fields:

    datacenters:
    - {name: dc1, username: ann, token: pfs1.…, endpoint: "https://…"}
    current-datacenter: dc1

or it is an ini file, as an early text of PaddleCloud has it, with a section for each datacenter:

    [dc1]
    username = ann
    token = pfs1.…
    endpoint = https://…

Words are taken as they are written, in quotes or without (`cli.configform`). In the first form and the last,
`active: true` says which one is current; else it is the first. An endpoint without a scheme means https. `ca` may name
a file with the certificate authority to trust. Instead of the token, or beside it, `usercert` and `userkey` may name
the files of a certificate and its key, which tell who one is; with a `password` commands log in by themselves
(`cli.reaching`).

The environment says more of the current datacenter: PADDLE_DATACENTER which one that is, PADDLE_ENDPOINT, PADDLE_TOKEN
and PADDLE_USERNAME what counts more than its fields. Where it says an endpoint, no file is needed. That holds for who
logs in and out, too.
"""

import os
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from cli.configform import CURRENT as NAMED_CURRENT
from cli.configform import Entry, Said, Written, WrongError, read
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.path import check_name

FIELDS = ("username", "token", "endpoint", "ca", "password", "usercert", "userkey", "active")
OVERRIDES = {"endpoint": "PADDLE_ENDPOINT", "token": "PADDLE_TOKEN", "username": "PADDLE_USERNAME"}
CURRENT = "PADDLE_DATACENTER"
NAMELESS = "default"  # a datacenter that only the environment knows, and gives no name
ENVIRONMENT = "the environment"  # where a configuration is from that is in no file
ME = "me"  # how the tree calls whoever asks
_NEEDED = {
    "username": "say who you are there, as in username: ann",
    "endpoint": "say where its server is, as in endpoint: https://host:8470",
}


class ConfigError(PfsError):
    """A configuration that cannot be used; says which file, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(Kind.INVALID, message)


@dataclass(frozen=True, slots=True)
class Datacenter:
    """One datacenter, as its user reaches it.

    Attributes:
        token: "" where there is none.
        own: the certificate that tells who one is.
        password: to get a token with, where there is none; "" for none.
    """

    name: str
    username: str
    token: str
    endpoint: str
    ca: str | None
    own: Pair | None = None
    password: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """All datacenters of one file, and the one that commands mean when none is named."""

    datacenters: dict[str, Datacenter]
    current: str
    path: str = ""

    @property
    def datacenter(self) -> Datacenter:
        """The one that commands mean."""
        return self.datacenters[self.current]

    def named(self, name: str | None) -> Datacenter:
        """Return the datacenter of that name, or the current one for None; it may have no token.

        Raises:
            ConfigError: there is none of that name.
        """
        name = name or self.current
        if name not in self.datacenters:
            cure = f"; {CURRENT} says its name" if self.path == ENVIRONMENT else ""
            raise ConfigError(f"{self.path} knows no datacenter {name!r}: {', '.join(self.datacenters)}{cure}")
        return self.datacenters[name]

    def showing(self, name: str | None) -> Datacenter:
        """Return the datacenter of that name, or the current one for None, where there is what its server is shown.

        Raises:
            ConfigError: there is none of that name, or nothing to show its server.
        """
        found = self.named(name)
        if found.token or found.own or found.password:
            return found
        login = "paddle login" if found.name == self.current else f"paddle login --dc {found.name}"
        cure = f"get one with: {login}" if self.path != ENVIRONMENT else f"say it as {OVERRIDES['token']}"
        raise ConfigError(f"{self.path}: {found.name} has no token; {cure}")


def config_path() -> str:
    """Return the file that the configuration is in."""
    return os.environ.get("PADDLE_CONFIG") or os.path.expanduser("~/.paddle/config")


def load(path: str | None = None) -> Config:
    """Read the configuration, by default the user's; a datacenter in it may have no token.

    Raises:
        ConfigError: there is none, or it is not what this module's docstring says.
    """
    path = config_path() if path is None else os.path.expanduser(path)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration {path}; `jobd init` on the server prints one, and so does its administrator"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} cannot be read: it is no text in UTF-8") from None
    return parse(text, path)


def parse(text: str, path: str) -> Config:
    """Return the configuration in `text`; `path` is for messages.

    Raises:
        ConfigError: as of `load`.
    """
    try:
        written = read(text)
        datacenters = {name: _datacenter(entry) for name, entry in written.entries.items()}
        return Config(datacenters, _current(written), path)
    except WrongError as error:
        raise ConfigError(f"{path}, {error.place}: {error}") from None


def _current(written: Written) -> str:
    """Return which one is current where the environment says nothing."""
    said, names = written.current, list(written.entries)
    if said is None or said.text == "":
        return next((name for name, entry in written.entries.items() if _is_active(entry)), names[0])
    if said.text not in names:
        there_are = f"there are only: {', '.join(names)}; write one of them"
        raise WrongError(f"{NAMED_CURRENT} is {said.text!r}, but {there_are}", said.line)
    return said.text


def _is_active(entry: Entry) -> bool:
    return _text(entry, "active").lower() in ("true", "yes", "1")


def _datacenter(entry: Entry) -> Datacenter:
    name = entry.name
    try:
        check_name(name)
    except PfsError:
        raise WrongError(
            f"a datacenter is a directory, and {name!r} cannot be a directory's name", entry.line
        ) from None
    for field, said in entry.fields.items():
        if field not in FIELDS:
            raise WrongError(f"{name} has a field {field!r}; there are {', '.join(FIELDS)}", said.line)
        if said.text is None:
            raise WrongError(f"{name} has no word as its {field}; write it behind the name, in one line", said.line)
    own = _own(entry)
    for field, cure in _NEEDED.items():
        if not _text(entry, field):
            raise WrongError(f"{name} has no {field}; {cure}", _line(entry, field))
    try:
        endpoint = _checked(_text(entry, "endpoint"))
    except ValueError as error:
        raise WrongError(f"{name} has {error}", _line(entry, "endpoint")) from None
    username, token, password = (_text(entry, field) for field in ("username", "token", "password"))
    ca = _text(entry, "ca")
    return Datacenter(name, username, token, endpoint, os.path.expanduser(ca) if ca else None, own, password)


def _text(entry: Entry, field: str) -> str:
    """Return what a field says, "" where there is none."""
    return entry.fields.get(field, Said("", 0)).text or ""


def _line(entry: Entry, field: str) -> int:
    """Return where a field is, or where it should be."""
    return entry.fields[field].line if field in entry.fields else entry.line


def _checked(text: str) -> str:
    """Return the URL that somebody wrote.

    Raises:
        ValueError: it is none of a server.
    """
    endpoint = endpoint_of(text)
    try:
        parts = urlsplit(endpoint)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise ValueError(f"the endpoint {endpoint!r}; one looks like https://host:8470")
    return endpoint


def _own(entry: Entry) -> Pair | None:
    given = [field for field in ("usercert", "userkey") if _text(entry, field)]
    if not given:
        return None
    if len(given) == 1:
        alone = f"{entry.name} has {given[0]} alone; usercert and userkey go together"
        raise WrongError(alone, _line(entry, given[0]))
    cert, key = (os.path.expanduser(_text(entry, field)) for field in given)
    return Pair(cert, key)


def datacenter(name: str | None) -> Datacenter:
    """Return the datacenter of that name, or the current one for None.

    Raises:
        ConfigError: there is none of that name, or nothing to show its server.
    """
    return effective().showing(name)


def effective() -> Config:
    """Return the user's configuration, with what the environment says; a datacenter in it may have no token.

    Raises:
        ConfigError: as of `load`, or for what is wrong in the environment.
    """
    said = {field: value for field, variable in OVERRIDES.items() if (value := os.environ.get(variable))}
    if "endpoint" in said:
        try:
            said["endpoint"] = _checked(said["endpoint"])
        except ValueError as error:
            raise ConfigError(f"{OVERRIDES['endpoint']} is {error}") from None
    needs_file = "endpoint" not in said or os.path.exists(config_path())
    loaded = load() if needs_file else Config({}, NAMELESS, ENVIRONMENT)
    current = os.environ.get(CURRENT) or loaded.current
    known = loaded.datacenters.get(current)
    if known is None and "endpoint" not in said:
        there_are = ", ".join(loaded.datacenters)
        raise ConfigError(f"{CURRENT} is {current!r}, but {loaded.path} knows only: {there_are}")
    meant = known or Datacenter(current, ME, "", "", None)
    meant = replace(
        meant,
        username=said.get("username", meant.username),
        token=said.get("token", meant.token),
        endpoint=said.get("endpoint", meant.endpoint),
    )
    return Config({**loaded.datacenters, current: meant}, current, loaded.path)


def lasting(own: Pair | None) -> Pair | None:
    """Return a certificate that has not ended, or None for none.

    Raises:
        PfsError: UNAUTHENTICATED for one that has.
    """
    if own is None:
        return None
    import time

    from pfs.certificates import read_certificate

    try:
        with open(own.certfile, "rb") as file:
            ends_at_s = read_certificate(file.read()).ends_at_ns // 10**9
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate {own.certfile} cannot be read: {error.strerror}") from None
    except PfsError as error:
        raise PfsError(error.kind, f"{own.certfile}: {error.message}") from None
    if ends_at_s <= time.time():
        ended = time.strftime("%Y-%m-%d", time.gmtime(ends_at_s))
        cure = "ask the administrator for another, or get a token with: paddle login"
        raise PfsError(Kind.UNAUTHENTICATED, f"the certificate {own.certfile} ended on {ended}; {cure}")
    return own


def endpoint_of(text: str) -> str:
    """Return the URL that is meant by what somebody wrote."""
    return (text if "://" in text else f"https://{text}").rstrip("/")
