"""A server that only knows who may come in, on loopback: what `pit` asks of one until somebody is in."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

PASSWORD = "correct horse battery staple"
ACCOUNTS = "/api/v1/accounts/"


class Server:
    """One user at first, `ann`.

    Attributes:
        users: their passwords, by name.
        good: the token that it takes.
        is_open: it tells who there is.
        takes_new: who registers becomes a user.
        asked: where somebody said who they are, and what, in order.
    """

    def __init__(self) -> None:
        self.users = {"ann": PASSWORD}
        self.good = "pfs1.a.good"
        self.is_open = True
        self.takes_new = True
        self.asked: list[tuple[str, dict[str, Any]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/api/v1/users/"):
                    known = self.path.rpartition("/")[2] in server.users
                    self.say(204 if known else 404, "not-found") if server.is_open else self.say(403, "denied")
                elif self.headers["authorization"] != f"Bearer {server.good}":
                    self.say(401, "unauthenticated")
                else:
                    self.say(200, "", b"{}" if self.path.startswith(ACCOUNTS) else b"name somebody\n")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.asked.append((self.path, body))
                if self.path.startswith(ACCOUNTS):
                    known = self.headers["authorization"] == f"Bearer {server.good}"
                    self.say(204) if known else self.say(401, "unauthenticated")
                    return
                if self.path.endswith("register") and server.takes_new:
                    server.users[body["user"]] = body["password"]
                if server.users.get(body["user"]) != body["password"]:
                    self.say(401, "unauthenticated")
                else:
                    self.say(200, "", json.dumps({"token": server.good}).encode())

            def say(self, status: int, kind: str = "", body: bytes = b"") -> None:
                body = body or json.dumps({"error": {"kind": kind, "message": "refused", "path": None}}).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("content-length", str(len(body)))
                self.end_headers()
                if status != 204:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})


@contextmanager
def doorkeeper() -> Iterator[Server]:
    """Give one that answers during the block."""
    made = Server()
    made.thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        made.thread.join()
        made.http.server_close()
