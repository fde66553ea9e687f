"""How `gradient-node` joins: with a join token it lets the server know a key of its own, which it uses from then on."""

import json
from collections.abc import Callable
from pathlib import Path

from jobd.node.ownkey import asked_key, keep_asked_key, read_own_key
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError
from pfs.keys import fingerprint, is_join_token
from pfs.protocol.wire import JOIN_PATH

Web = Callable[[str, str], WebClient]


def joined_key(given: str, url: str, directory: Path, *, machine: str, name: str, web: Web = WebClient) -> str:
    """Return the key to use where `given` was given: that one, or with a join token this machine's own.

    Args:
        url: of the server.
        directory: the daemon's own.
        machine: what this machine is known by (`jobd.node.state.StateDir.instance`).
        name: of the machine, for people.

    Raises:
        PfsError: DENIED when the join token is good no more, UNREACHABLE or TIMED_OUT when it may go better later.
    """
    if not is_join_token(given):
        return given
    kept = read_own_key(directory)
    if kept is not None and kept.is_of(given):
        return kept.key
    own = asked_key(directory, given)
    body = json.dumps({"key": fingerprint(own.key), "machine": machine, "name": name}).encode()
    try:
        _ask(web, url, given, body)
    except PfsError as error:
        if error.kind is Kind.EXISTS and kept is not None:
            return kept.key
        if error.kind is not Kind.UNAUTHENTICATED or not _is_known(web, url, own.key, body):
            raise _refusal(error) from None
    keep_asked_key(directory)
    return own.key


def _is_known(web: Web, url: str, key: str, body: bytes) -> bool:
    """Tell whether the server knows a key: it may have said so before, and not been heard."""
    try:
        _ask(web, url, key, body)
    except PfsError as error:
        if error.kind is Kind.UNAUTHENTICATED:
            return False
        raise
    return True


def _ask(web: Web, url: str, key: str, body: bytes) -> None:
    with web(url, key) as client:
        client.call("POST", JOIN_PATH, body)


def _refusal(error: PfsError) -> PfsError:
    if error.kind is not Kind.UNAUTHENTICATED:
        return error
    why = "this join token is good no more: each is good once, and not for long"
    return PfsError(Kind.DENIED, f"{why}; make another on the server with: jobd join-token")
