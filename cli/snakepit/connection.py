"""Where the pit is and who one is there: `.pitconnect.txt`, `.pituser.txt`, and the dialogue where that is missing.

    .pitconnect.txt   the URL of the server; from the second line on certificates, the only ones to trust
    .pituser.txt      the user's name, and a token; mode 0600

Both are looked for in the current directory, then in `PIT_CONFIG_DIR`, then at home. Who comes for the first time is
asked who they are, and `.pituser.txt` is written into the current directory. A token that is good no more is got anew
for a password, for which one is asked once in a process. The words are those of Snakepit's client.
"""

import json
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

import click

from cli.snakepit.asking import ask, say
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from pfs.client.web import WebClient

CONNECT_FILE = ".pitconnect.txt"
USER_FILE = ".pituser.txt"
USERS_URL = "/api/v1/users"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Where:
    """A server: its URL, and the file with the certificates to trust, if any."""

    endpoint: str
    ca: str | None


@dataclass(slots=True)
class Who:
    """Somebody, as their file has it.

    Attributes:
        password: what they typed in this process, if they were asked; it is kept nowhere.
    """

    name: str
    token: str
    path: str
    password: str | None = field(default=None, repr=False)


class Pit:
    """The tree of the pit, for somebody; who is asked for a password where the token is good no more."""

    def __init__(self, where: Where, who: Who) -> None:
        self.where = where
        self.who = who
        self._client: WebClient | None = None
        self._was_asked = False

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def again(self, work: "Callable[[WebClient], T]") -> T:
        """Do something that can be done twice; the second time with another token, where the first is good no more."""
        try:
            return work(self._connected())
        except PfsError as error:
            if error.kind is not Kind.UNAUTHENTICATED or self._was_asked:
                raise
        self._was_asked = True
        self.close()
        log_in(self.where, self.who)
        write_user(self.who)
        return work(self._connected())

    def own_password(self) -> str:
        """Return the password of who is there, as they say it: once."""
        return _password(self.where, self.who)

    def read(self, path: str) -> bytes:
        """Return a whole file; of a stream, what there is."""
        return self.again(lambda client: client.read(path))

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[Iterator[bytes]]:
        """Give what is in a file from `start` on, as it comes; of a stream until its writer is done."""
        with ExitStack() as stack:
            yield self.again(lambda client: stack.enter_context(client.stream(path, start)))

    def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a directory, with the text of the file `each` in every subdirectory."""
        return self.again(lambda client: client.list(path, each))

    def put(self, path: str, data: bytes, key: str) -> str | None:
        """Put a whole file; return the path of what came of it, where something did."""
        return self.again(lambda client: client.put(path, data, key))

    def write(self, path: str, data: bytes) -> None:
        """Write to a file that takes commands."""
        self.again(lambda client: client.write(path, data))

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        self.again(lambda client: client.mkdir(path))

    def remove(self, path: str) -> None:
        """Remove a file, or an empty directory."""
        self.again(lambda client: client.remove(path))

    def call(self, method: str, url: str, content: bytes | Iterable[bytes]) -> Any:
        """Ask for something beside the tree; pieces, which come only once, are sent by a token that was good before."""
        if not isinstance(content, bytes):
            return self._connected().call(method, url, content)
        return self.again(lambda client: client.call(method, url, content))

    def _connected(self) -> "WebClient":
        from pfs.client.web import WebClient

        if self._client is None:
            self._client = WebClient(self.where.endpoint, self.who.token, self.where.ca)
        return self._client


@contextmanager
def connected() -> Iterator[Pit]:
    """Give the pit that the files name."""
    where = find_pit()
    client = Pit(where, find_user() or first_use(where))
    try:
        yield client
    finally:
        client.close()


# ---- files


def acquainted() -> tuple[Where, Who] | None:
    """Return where the pit is and who one is there; None where nothing says so, and somebody would have to be asked."""
    who = None if _find(CONNECT_FILE) is None else find_user()
    return None if who is None else (find_pit(), who)


def find_pit() -> Where:
    """Return where the pit is."""
    path = _find(CONNECT_FILE)
    if path is None:
        give_up(
            "Unable to find connectivity info about your pit.",
            f"Ask its administrator for a {CONNECT_FILE},",
            "and put it into your home directory, or into the root of your project.",
        )
    endpoint, *certificates = _lines(path) or [""]
    if not endpoint.strip():
        raise PfsError(Kind.INVALID, f"{path}: its first line is to be the URL of the pit")
    return Where(endpoint.strip().rstrip("/"), path if any(line.strip() for line in certificates) else None)


def find_user() -> Who | None:
    """Return who one is; None where nothing says so."""
    path = _find(USER_FILE)
    if path is None:
        return None
    lines = [line.strip() for line in _lines(path)]
    if len(lines) < 2 or not lines[0]:
        raise PfsError(Kind.INVALID, f"{path}: a user name and a token are needed; remove it to start over")
    return Who(lines[0], lines[1], path)


def write_user(who: Who) -> None:
    """Write somebody's file, which nobody else can read."""
    path = os.path.realpath(who.path)
    fd, part = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f"{USER_FILE}-")  # of mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(f"{who.name}\n{who.token}\n")
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _find(name: str) -> str | None:
    for directory in (".", os.environ.get("PIT_CONFIG_DIR"), os.path.expanduser("~")):
        if directory is not None and os.path.isfile(os.path.join(directory, name)):
            return os.path.join(directory, name)
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except UnicodeDecodeError:
        raise PfsError(Kind.INVALID, f"{path} cannot be read: it is no text in UTF-8") from None


# ---- the dialogue


def first_use(where: Where) -> Who:
    """Ask who is there, who may become a user of the pit by that; write their file."""
    if not os.access(".", os.W_OK | os.X_OK):
        reason = f"the current directory cannot be written to, and {USER_FILE} would be kept here; go to another one"
        raise PfsError(Kind.DENIED, reason)
    say("No user info found. Seems like a new user or first time login from this machine.")
    name = ask("Please enter an existing or new username: ").strip()
    who = Who(name, "", USER_FILE)
    if _exists(where, name):
        log_in(where, who)
    else:
        say("Found no user of that name.")
        if ask("Do you want to register this usename (yes|no)? ").strip().lower() not in ("yes", "y"):
            raise SystemExit(0)
        _register(where, who)
    write_user(who)
    return who


def log_in(where: Where, who: Who) -> None:
    """Ask somebody for their password; give them a token for it."""
    from cli.sdk.reaching import LOGIN_URL

    try:
        who.token = _token(where, LOGIN_URL, {"user": who.name, "password": _password(where, who)})
    except PfsError as error:
        if error.kind is not Kind.UNAUTHENTICATED:
            raise
        give_up(
            f'Unable to authenticate. If user "{who.name}" is not valid anymore, remove "{USER_FILE}" from this '
            "directory or your home folder and start over."
        )


def _password(where: Where, who: Who) -> str:
    from cli.sdk.reaching import check_private

    check_private(where.endpoint)
    if who.password is None:
        who.password = ask("Please enter password: ", hidden=True)
    return who.password


def _register(where: Where, who: Who) -> None:
    from cli.entering import REGISTER_URL
    from cli.sdk.reaching import check_private

    check_private(where.endpoint)
    asked = {"user": who.name, "fullname": ask("Full name: ").strip()}
    asked["email"] = new_email()
    asked["password"] = who.password = new_password(who.name)
    try:
        who.token = _token(where, REGISTER_URL, asked)
    except PfsError as error:
        raise PfsError(error.kind, f"Unable to register user. {error.message}") from None


def new_email() -> str:
    """Ask for an e-mail address until it looks like one."""
    email = ask("E-Mail address: ").strip()
    while not EMAIL.fullmatch(email):
        email = ask("E-Mail address: ").strip()
    return email


def new_password(name: str) -> str:
    """Ask a user for another password until it is good enough, and was typed twice."""
    from pfs.accounts.strength import check_password

    while True:
        password = ask("New password: ", hidden=True)
        try:
            check_password(password, name)
        except PfsError as error:
            say(error.message)
            continue
        if ask("Reinput a same one to confirm it: ", hidden=True) == password:
            return password
        say("These are not the same.")


def _exists(where: Where, name: str) -> bool:
    """Tell whether there is such a user; where the server tells nobody, it has to be one."""
    from pfs.names import check_user_name

    try:
        _asked(where, "GET", f"{USERS_URL}/{quote(check_user_name(name), safe='')}", b"")
    except PfsError as error:
        if error.kind is Kind.DENIED:
            return True
        if error.kind is Kind.NOT_FOUND:
            return False
        raise
    return True


def _token(where: Where, url: str, asked: Mapping[str, str]) -> str:
    welcome = _asked(where, "POST", url, json.dumps({**asked, "machine": socket.gethostname()}).encode())
    try:
        return str(welcome["token"])
    except (KeyError, TypeError):
        raise PfsError(Kind.UNREACHABLE, f"what answers at {where.endpoint} is not a pfs server") from None


def _asked(where: Where, method: str, url: str, body: bytes) -> Any:
    from pfs.client.web import WebClient

    with WebClient(where.endpoint, "", where.ca, shows=False) as client:
        return client.call(method, url, body)


def give_up(*lines: str) -> NoReturn:
    """End with what is to be said of it."""
    for line in lines:
        click.echo(line, err=True)
    raise SystemExit(1)
