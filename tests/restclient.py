"""A client of REST v1 and of the file protocol beside it, written from what is documented of them alone."""

import email
import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

BOUNDARY = "8d7b0e5709d756e21e971ff4d9ac3b20"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: httpx takes long to make its own
END = "this file reaches end"


class RestError(Exception):
    """What a server said, with the status that it said it with."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class RestClient:
    """Somebody's calls.

    Attributes:
        sent: offsets of the chunks that were sent.
        before_chunk: called before each of them; may raise, as a connection that is cut does.
    """

    def __init__(self, url: str, version: str = "v1", slash: str = "/") -> None:
        self._http = httpx.Client(base_url=url, verify=NO_TLS, trust_env=False, timeout=60)
        self._version, self._slash = version, slash
        self.sent: list[int] = []
        self.before_chunk: Callable[[int], None] = lambda offset: None

    def close(self) -> None:
        self._http.close()

    def log_in(self, username: str, password: str) -> str:
        answer = self._http.post("/api-token-auth/", data={"username": username, "password": password})
        if answer.status_code != 200:
            raise RestError(answer.status_code, answer.json()["msg"])
        token = str(answer.json()["token"])
        self.show(token)
        return token

    def show(self, token: str) -> None:
        self._http.headers["authorization"] = f"Token {token}"

    # ---- jobs

    def call(self, method: str, what: str, **how: Any) -> Any:
        """Ask for something with the envelope of jobs; give all of it."""
        answer = self._http.request(method, f"/api/{self._version}/{what}{self._slash}", **how)
        said = answer.json()
        assert said["code"] == answer.status_code, said
        if answer.status_code != 200:
            raise RestError(answer.status_code, said["msg"])
        return said

    def submit(self, **fields: Any) -> int:
        said = self.call("POST", "jobs", json=fields)
        assert said["msg"] == "OK"
        return int(said["id"])

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", "jobs")["msg"]
        return found

    def logs(self, **which: Any) -> str:
        return str(self.call("GET", "logs", params=which)["msg"])

    def kill(self, jobname: str, **how: Any) -> None:
        assert self.call("DELETE", "jobs", json={"jobname": jobname, **how})["msg"] == "OK"

    # ---- files

    def publish(self, path: str) -> str:
        return str(self.call("POST", "publish", json={"path": path})["url"])

    def files(self, method: str, what: str = "files", **how: Any) -> Any:
        """Ask for something with the envelope of files; give its results, None at the end of a file."""
        answer = self._http.request(method, f"/api/{self._version}/pfs/{what}{self._slash}", **how)
        said = answer.json()
        if said["err"] == END:
            return None
        if answer.status_code != 200 or said["err"]:
            raise RestError(answer.status_code, said["err"])
        return said["results"]

    def ls(self, *paths: str, deep: bool = False) -> list[dict[str, Any]]:
        query = [("method", "ls"), ("r", str(deep).lower()), *(("arg", path) for path in paths)]
        found: list[dict[str, Any]] = self.files("GET", params=query)
        return found

    def stat(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.files("GET", params={"method": "stat", "path": path})
        return found

    def mkdir(self, *paths: str) -> Any:
        return self.files("POST", json={"method": "mkdir", "path": paths})

    def rm(self, *paths: str, deep: bool = False) -> Any:
        return self.files("DELETE", json={"method": "rm", "r": deep, "path": paths})

    def touch(self, path: str, size: int) -> None:
        self.files("POST", json={"method": "touch", "path": path, "filesize": size})

    def chunk_meta(self, path: str, offset: int, size: int) -> tuple[str, int] | None:
        query = {"method": "GetChunkMeta", "path": path, "offset": offset, "chunksize": size}
        said = self.files("GET", "chunks", params=query)
        return None if said is None else (said["checksum"], said["len"])

    def put_chunk(self, path: str, offset: int, data: bytes, **other: int) -> None:
        self.before_chunk(offset)
        name = urlencode({"path": path, "offset": offset, "chunksize": len(data)} | other)
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="{name}"\r\n'
        body = f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + data
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        self.files("POST", "storage/chunks", content=body + f"\r\n--{BOUNDARY}--\r\n".encode(), headers=headers)
        self.sent.append(offset)

    def get_chunk(self, path: str, offset: int, size: int) -> bytes:
        query = {"path": path, "offset": offset, "chunksize": size}
        answer = self._http.get(f"/api/{self._version}/pfs/storage/chunks{self._slash}", params=query)
        if answer.status_code != 200:
            raise RestError(answer.status_code, answer.json()["err"])
        head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
        (part,) = email.message_from_bytes(head + answer.content).get_payload()
        assert isinstance(part, email.message.Message)
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        return data

    def upload(self, source: Path, target: str, chunk: int) -> None:
        """Send what differs."""
        size = source.stat().st_size
        self.touch(target, size)
        for offset, data in _chunks(source, chunk):
            if self.chunk_meta(target, offset, chunk) != (hashlib.md5(data).hexdigest(), len(data)):
                self.put_chunk(target, offset, data)

    def download(self, source: str, target: Path, chunk: int) -> list[int]:
        """Fetch what differs; give the offsets of that."""
        size, fetched = self.stat(source)["Size"], []
        with target.open("r+b" if target.exists() else "w+b") as file:
            file.truncate(size)
            for offset in range(0, size, chunk):
                file.seek(offset)
                mine = file.read(chunk)
                if self.chunk_meta(source, offset, chunk) != (hashlib.md5(mine).hexdigest(), len(mine)):
                    file.seek(offset)
                    file.write(self.get_chunk(source, offset, chunk))
                    fetched.append(offset)
        return fetched


def _chunks(path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        offset = 0
        while data := file.read(size):
            yield offset, data
            offset += len(data)
