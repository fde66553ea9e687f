"""A client that takes of each answer what PaddleCloud's shipped client takes of it, and fails where that one would.

A key that it looks for and that is missing is a `KeyError`, a text that is none a `TypeError`.
"""

import hashlib
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

AGENT = "Go-http-client/1.1"
REGISTRY = "pcloud-registry-"
NO_FILE, END = "no such file or directory", "this file reaches end"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: httpx takes long to make its own

Row = tuple[Any, ...]


class ShippedError(Exception):
    """What the client tells its user and ends with."""


class ShippedClient:
    """Somebody's commands; each returns the rows that are printed."""

    def __init__(self, url: str, version: str = "v1") -> None:
        self._http = httpx.Client(base_url=url, verify=NO_TLS, trust_env=False, timeout=60)
        self._http.headers["user-agent"] = AGENT
        self._version = version

    def close(self) -> None:
        self._http.close()

    def log_in(self, username: str, password: str) -> None:
        told = self._told(self._http.post("/api-token-auth/", json={"username": username, "password": password}))
        self.show(text(told["token"]))

    def show(self, token: str) -> None:
        self._http.headers["authorization"] = f"Token {token}"

    # ---- get

    def jobs(self) -> list[Row]:
        servers = [(text(each["metadata"]["name"]), each["status"]) for each in self._call("GET", "pservers")["items"]]
        return [self._job(item["metadata"], item["status"], servers) for item in self._call("GET", "jobs")["items"]]

    @staticmethod
    def _job(metadata: Any, status: Any, servers: list[tuple[str, Any]]) -> Row:
        name = text(metadata["name"]).rpartition("-")[0]
        found = next((each for called, each in servers if called == f"{name}-pserver"), None)
        counts = (status["active"], status["succeeded"], status["failed"])
        ready = (None, None) if found is None else (found["ready_replicas"], found["replicas"])
        return (name, *counts, status["start_time"], status["completion_time"], *ready)

    def workers(self, jobname: str) -> list[Row]:
        items = self._call("GET", "workers", params={"jobname": jobname})["items"]
        return [self._worker(item["metadata"], item["status"]) for item in items]

    @staticmethod
    def _worker(metadata: Any, status: Any) -> Row:
        ended = status["container_statuses"][0]["state"]["terminated"]
        code, message = (None, None) if ended is None else (ended["exit_code"], ended["message"])
        return (text(metadata["name"]), text(status["phase"]), status["start_time"], code, message)

    def quota(self) -> dict[str, str]:
        items = self._call("GET", "quota")["items"]
        return {name: text(limit) for item in items for name, limit in item["status"]["hard"].items()}

    def registries(self) -> list[Row]:
        found = [item["metadata"] for item in self._call("GET", "registry")["msg"]["items"]]
        told = [(text(each["name"]), text(each["creation_timestamp"])) for each in found]
        return [(name.removeprefix(REGISTRY), at) for name, at in told if name.startswith(REGISTRY)]

    # ---- what else it does

    def submit(self, **fields: Any) -> None:
        self._well(self._call("POST", "jobs", json=fields))

    def kill(self, jobname: str) -> None:
        told = self._call("DELETE", "jobs", json={"jobname": jobname})
        if told["code"] != 200:
            raise ShippedError(text(told["msg"]))

    def logs(self, jobname: str, lines: int = 10, worker: str = "") -> str:
        return text(self._call("GET", "logs", params={"n": lines, "w": worker, "jobname": jobname})["msg"])

    def keep_registry(self, name: str, **said: str) -> None:
        self._well(self._call("POST", "registry", json={"name": REGISTRY + name, **said}))

    def forget_registry(self, name: str) -> None:
        empty = dict.fromkeys(("username", "password", "server"), "")
        self._well(self._call("DELETE", "registry", json={"name": REGISTRY + name, **empty}))

    def put(self, source: Path, target: str) -> None:
        with source.open("rb") as file:
            self._well(self._call("POST", "file", params={"path": target}, files={"file": file}))

    def ls(self, path: str, dc: str) -> list[str]:
        told = self._call("GET", "filelist", params={"path": path, "dc": dc})
        self._well(told)
        return [text(name) for name in told["items"]]

    # ---- pfs

    def stat(self, path: str) -> Any:
        return self._files("GET", "files", params={"method": "stat", "path": path})["results"]

    def mkdir(self, path: str) -> list[str]:
        told = self._files("POST", "files", json={"method": "mkdir", "path": [path]})
        return [text(each["path"]) for each in told["results"]]

    def rm(self, path: str, *, deep: bool = False) -> list[str]:
        told = self._files("DELETE", "files", json={"method": "rm", "r": deep, "path": [path]})
        return [text(each["path"]) for each in told["path"]]

    def upload(self, source: Path, target: str, chunk: int) -> list[int]:
        """Return where the chunks begin that were sent."""
        try:
            target = f"{target}/{source.name}" if self.stat(target)["IsDir"] else target
        except ShippedError as error:
            if NO_FILE not in str(error):
                raise
        data, sent = source.read_bytes(), []
        asked = {"method": "touch", "filesize": len(data), "path": target}
        text(self._files("POST", "files", json=asked)["results"]["path"])
        for offset in range(0, len(data), chunk):
            piece = data[offset : offset + chunk]
            if self._checksum(target, offset, chunk) != hashlib.md5(piece).hexdigest():
                name = urlencode({"path": target, "offset": offset, "chunksize": len(piece)})
                self._files("POST", "storage/chunks", files={"chunk": (name, piece)})
                sent.append(offset)
        return sent

    def _checksum(self, path: str, offset: int, chunk: int) -> str:
        asked = {"method": "GetChunkMeta", "path": path, "offset": offset, "chunksize": chunk}
        return text(self._files("GET", "chunks", params=asked)["results"]["checksum"])

    def _files(self, method: str, what: str, **how: Any) -> Any:
        told = self._told(self._http.request(method, f"/api/{self._version}/pfs/{what}", **how))
        if text(told["err"]) not in ("", END):
            raise ShippedError(told["err"])
        return told

    def _call(self, method: str, what: str, **how: Any) -> Any:
        return self._told(self._http.request(method, f"/api/{self._version}/{what}/", **how))

    @staticmethod
    def _told(answer: httpx.Response) -> Any:
        if (status := f"{answer.status_code} {answer.reason_phrase}") != "200 OK":
            raise ShippedError(f"server error: {status}", answer.text)
        return answer.json()

    @staticmethod
    def _well(told: Any) -> None:
        """Take every word for an error."""
        if text(told["msg"]):
            raise ShippedError(told["msg"])


def text(value: object) -> str:
    """Return a text that is taken for granted."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
