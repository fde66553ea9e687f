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

In the first and the last, `active: true` says which one is current; else it is the first. An endpoint without a scheme
means https. `ca` may name a file with the certificate authority to trust. Instead of the token, or beside it,
`usercert` and `userkey` may name the files of a certificate and its key, which tell who one is; with a `password`
commands log in by themselves (`cli.reaching`).

The environment says more of the current datacenter: PADDLE_DATACENTER which one that is, PADDLE_ENDPOINT, PADDLE_TOKEN
and PADDLE_USERNAME what counts more than its fields. Where it says an endpoint, no file is needed.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.path import check_name

FIELDS = ("username", "token", "endpoint", "ca", "password", "usercert", "userkey", "active")
OVERRIDES = {"endpoint": "PADDLE_ENDPOINT", "token": "PADDLE_TOKEN", "username": "PADDLE_USERNAME"}
CURRENT = "PADDLE_DATACENTER"
NAMELESS = "default"  # a datacenter that only the environment knows, and gives no name
ENVIRONMENT = "the environment"  # where a configuration is from that is in no file
ME = "me"  # how the tree calls whoever asks
NO_TOKEN = "; get one with: paddle login"
_SECTION = re.compile(r"\s*([#;].*\n\s*)*\[[^\[\],]+\]\s*([#;].*)?$", re.MULTILINE)


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


def config_path() -> str:
    """Return the file that the configuration is in."""
    return os.environ.get("PADDLE_CONFIG") or os.path.expanduser("~/.paddle/config")


def load(path: str | None = None, *, needs_token: bool = True) -> Config:
    """Read the configuration; by default the user's.

    Args:
        needs_token: refuse a datacenter without one; who is about to log in has none.

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
    return parse(text, path, needs_token=needs_token)


def parse(text: str, path: str, *, needs_token: bool = True) -> Config:
    """Return the configuration in `text`; `path` is for messages, `needs_token` as of `load`."""
    value = _sections(text, path) if is_ini(text) else _yaml(text, path)
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{path} names no datacenter; write `<name>:` and below it username, token and endpoint")
    found, current = _entries(value, path)
    datacenters = {}
    for name, entry in found:
        try:
            datacenters[name] = _datacenter(name, entry, path, needs_token)
        except ConfigError:
            _datacenter(name, entry, _place(text, name, path), needs_token)  # now with its line
            raise
    if current is None:
        active = [name for name, entry in found if isinstance(entry, dict) and entry.get("active") is True]
        current = active[0] if active else next(iter(datacenters))
    if current not in datacenters:
        raise ConfigError(f"{path}: current-datacenter is {current!r}, but there are only: {', '.join(datacenters)}")
    return Config(datacenters, current, path)


def _place(text: str, name: str, path: str) -> str:
    """Return where in a file a datacenter begins, as far as that can be told."""
    word = rf"['\"]?{re.escape(name)}['\"]?"
    begins = re.compile(rf"\s*\[{word}\]|\s*{word}\s*:|.*\bname['\"]?\s*:\s*{word}\s*([,}}#]|$)")
    line = next((at for at, line in enumerate(text.splitlines(), 1) if begins.match(line)), None)
    return path if line is None else f"{path}, line {line}"


def is_ini(text: str) -> bool:
    """Tell whether a configuration is written as an ini file."""
    return _SECTION.match(text) is not None


def _sections(text: str, path: str) -> dict[str, dict[str, Any]]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        parser.read_string(text)
    except configparser.ParsingError as error:
        line, _ = error.errors[0]
        raise ConfigError(f"{path}, line {line}: this is neither `name = value` nor a [section]") from None
    except (configparser.DuplicateSectionError, configparser.DuplicateOptionError) as error:
        raise ConfigError(f"{path}, line {error.lineno}: this is said a second time; take one of them away") from None
    found: dict[str, dict[str, Any]] = {name: dict(parser[name]) for name in parser.sections()}
    for entry in found.values():
        if "active" in entry:
            entry["active"] = entry["active"].lower() in ("true", "yes", "1")
    return found


def _yaml(text: str, path: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{where}: {error.problem}; see `paddle --help` for the form") from None
    except YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None


def _entries(value: dict[str, Any], path: str) -> tuple[list[tuple[str, Any]], str | None]:
    if "datacenters" not in value:
        return [(str(name), entry) for name, entry in value.items()], None
    listed = value["datacenters"]
    if not isinstance(listed, list) or not listed or not all(isinstance(e, dict) and "name" in e for e in listed):
        raise ConfigError(f"{path}: datacenters is a list, each with name, username, token and endpoint")
    entries = [(str(e["name"]), {key: e[key] for key in e if key != "name"}) for e in listed]
    current = value.get("current-datacenter")
    return entries, None if current is None else str(current)


def _datacenter(name: str, entry: Any, path: str, needs_token: bool) -> Datacenter:
    try:
        check_name(name)
    except PfsError:
        raise ConfigError(f"{path}: a datacenter is a directory, and {name!r} cannot be a directory's name") from None
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: {name} has no fields; it needs username, token and endpoint")
    for field in entry:
        if field not in FIELDS:
            raise ConfigError(f"{path}: {name} has a field {field!r}; there are {', '.join(FIELDS)}")
    own, password = _own(name, entry, path), str(entry.get("password") or "")
    for field in ("username", "token", "endpoint"):
        if field == "token" and field not in entry and (own is not None or password or not needs_token):
            continue
        if not isinstance(entry.get(field), str) or not entry[field]:
            raise ConfigError(f"{path}: {name} has no {field}{NO_TOKEN if field == 'token' else ''}")
    endpoint = _checked(entry["endpoint"], f"{path}: {name} has")
    ca = None if entry.get("ca") is None else _file(entry["ca"])
    return Datacenter(name, entry["username"], entry.get("token", ""), endpoint, ca, own, password)


def _checked(text: str, who: str) -> str:
    endpoint = endpoint_of(text)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{who} the endpoint {endpoint!r}; one looks like https://host:8470")
    return endpoint


def _own(name: str, entry: dict[str, Any], path: str) -> Pair | None:
    given = [field for field in ("usercert", "userkey") if entry.get(field)]
    if not given:
        return None
    if len(given) == 1:
        raise ConfigError(f"{path}: {name} has {given[0]} alone; usercert and userkey go together")
    return Pair(_file(entry["usercert"]), _file(entry["userkey"]))


def datacenter(name: str | None) -> Datacenter:
    """Return the datacenter of that name, or the current one for None.

    Raises:
        ConfigError: there is none of that name, or nothing to show its server.
    """
    loaded = effective()
    name = name or loaded.current
    if name not in loaded.datacenters:
        cure = f"; {CURRENT} says its name" if loaded.path == ENVIRONMENT else ""
        raise ConfigError(f"{loaded.path} knows no datacenter {name!r}: {', '.join(loaded.datacenters)}{cure}")
    found = loaded.datacenters[name]
    if not (found.token or found.own or found.password):
        cure = NO_TOKEN if loaded.path != ENVIRONMENT else f"; say it as {OVERRIDES['token']}"
        raise ConfigError(f"{loaded.path}: {name} has no token{cure}")
    return found


def effective() -> Config:
    """Return the user's configuration, with what the environment says; a datacenter in it may have no token.

    Raises:
        ConfigError: as of `load`, or for what is wrong in the environment.
    """
    said = {field: value for field, variable in OVERRIDES.items() if (value := os.environ.get(variable))}
    if "endpoint" in said:
        said["endpoint"] = _checked(said["endpoint"], f"{OVERRIDES['endpoint']} is")
    if "endpoint" in said and not os.path.exists(config_path()):
        loaded = Config({}, NAMELESS, ENVIRONMENT)
    else:
        loaded = load(needs_token=False)
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


def _file(value: object) -> str:
    return os.path.expanduser(str(value))


def endpoint_of(text: str) -> str:
    """Return the URL that is meant by what somebody wrote."""
    return (text if "://" in text else f"https://{text}").rstrip("/")
