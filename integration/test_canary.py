"""Secrets of every kind go through a whole job, and are then looked for everywhere."""

import base64
import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx

from cli.server.datacenter import Store
from integration.box import Box, box, wait_until
from pfs.accounts.passwords import hash_now
from pfs.protocol.wire import FILES_PATH
from pfs.server.entrance import LOGIN_PATH, TOKENS_PATH

PASSWORD = "canary-of-ann-her-password"
MISPLACED = "canary-of-ann-in-the-wrong-field"
SECRET = "canary-of-ann-for-wandb"
REGISTRY = "canary-of-ann-for-a-registry"


def forms(canary: str) -> list[bytes]:
    """Return a text as it is and in base64, wherever in a longer text it stands."""
    data = canary.encode()
    return [data, *(base64.b64encode(b"x" * shift + data)[4:-4] for shift in range(3))]


def those_in(text: bytes, canaries: dict[str, str]) -> list[str]:
    return [name for name, canary in canaries.items() if any(form in text for form in forms(canary))]


def found_on_disk(canaries: dict[str, str], *roots: Path) -> list[tuple[str, str]]:
    files = [Path(folder, name) for root in roots for folder, _, names in os.walk(root) for name in names]
    files += [root for root in roots if root.is_file()]
    return [(file.name, name) for file in files if file.is_file() for name in those_in(file.read_bytes(), canaries)]


def processes_of(made: Box) -> Iterator[tuple[str, Path]]:
    """Yield the daemons and everything that they started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[path] = Path("/proc") / path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]
    for name, process in made.processes.items():
        family = [Path(f"/proc/{process.pid}")]
        for member in family:
            family += [path for path, parent in parents.items() if parent == member]
        yield from ((name, member) for member in family)


def found_in_processes(canaries: dict[str, str], made: Box) -> set[tuple[str, str]]:
    found = set()
    for name, path in processes_of(made):
        for file in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # it has ended
                found |= {(f"{file} of {name}", each) for each in those_in((path / file).read_bytes(), canaries)}
    return found


def found_in_tree(canaries: dict[str, str], client: httpx.Client, path: str = "") -> list[tuple[str, str]]:
    answer = client.get(f"{FILES_PATH}/{path}", params={"wait": "0"})
    found = [(path, name) for name in those_in(answer.content, canaries)]
    if answer.headers["content-type"] == "application/json" and answer.is_success:
        entries = [entry for entry in answer.json()["entries"] if entry["type"] != "symlink"]
        for entry in entries:
            found += found_in_tree(canaries, client, f"{path}/{entry['name']}".strip("/"))
    return found


def as_user(made: Box, token: str) -> httpx.Client:
    return httpx.Client(base_url=made.url, headers={"authorization": f"Bearer {token}"}, trust_env=False, timeout=30)


def test_no_secret_of_any_kind_is_anywhere_but_where_it_belongs() -> None:
    with box() as made:
        store = Store(str(made.data), None, exclusive=False)
        bobs = store.add_user("bob", admin=False)
        store.add_user("ann", admin=False)
        store.accounts.set_password_now("ann", hash_now(PASSWORD))
        store.close()
        made.start_server()
        made.start_node()
        canaries = {"password": PASSWORD, "misplaced": MISPLACED, "secret": SECRET, "registry": REGISTRY}
        canaries |= {"admin's token": made.token, "bob's token": bobs}
        canaries["node's key"] = (made.root / "node.key").read_text().strip()

        with as_user(made, "x") as nobody:
            wrong = nobody.post(LOGIN_PATH, json={"user": MISPLACED, "password": "ann"})
            assert wrong.status_code == 401
            came_in = nobody.post(LOGIN_PATH, json={"user": "ann", "password": PASSWORD, "machine": "laptop"})
        canaries["ann's token"] = came_in.json()["token"]

        with as_user(made, canaries["ann's token"]) as ann:
            script = ann.post(TOKENS_PATH, json={"label": "script", "scopes": ["read"], "days": 1})
            canaries["script's token"] = script.json()["token"]
            vault = f"server: r.example.org\nusername: ann\npassword: {REGISTRY}\n"
            for name, text in (("wandb", SECRET), ("vault", vault)):
                assert ann.put(f"{FILES_PATH}/secrets/{name}", content=text).status_code == 204
            command = "sha256sum < /run/secrets/wandb; env; while [ ! -e $HOME/go ]; do sleep 0.1; done"
            spec = f"secrets: [wandb]\ncommand: {json.dumps(command)}\n"
            assert ann.put(f"{FILES_PATH}/jobs/a.yaml", content=spec).status_code == 201
            assert ann.put(f"{FILES_PATH}/jobs/b.yaml", content="registry: vault\ncommand: x\n").status_code == 400
            digest = hashlib.sha256(SECRET.encode()).hexdigest()
            wait_until(lambda: digest in ann.get(f"{FILES_PATH}/jobs/1/log.txt").text)
            assert found_in_processes(canaries, made) == {("environ of n0", "node's key")}
            assert ann.put(f"{FILES_PATH}/home/ann/go", content="").status_code == 204
            assert ann.get(f"{FILES_PATH}/jobs/1/wait").text == "0\n"

        people = {"bob": bobs, "demo": made.token, "ann": canaries["ann's token"]}
        for name, token in people.items():
            with as_user(made, token) as client:
                assert (name, found_in_tree(canaries, client)) == (name, [])
        with as_user(made, made.token) as client:
            audit = client.get(f"{FILES_PATH}/audit").text
            for word in (
                "login users/? unauthenticated",
                "login users/ann done",
                "secret.keep",
                "job.submit jobs/1 done",
            ):
                assert word in audit
        # what the service keeps, and what it said; what it gave out lies with whoever it gave it to
        logs = list(made.root.glob("*.log"))
        assert len(logs) == 2
        assert found_on_disk(canaries, made.data, made.root / "state-n0", *logs) == []
        for folder in (made.data / "server", made.root / "state-n0"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        given = {"paddle-config": "admin's token", ".pituser.txt": "admin's token", "node.key": "node's key"}
        assert set(found_on_disk(canaries, made.root)) == set(given.items())
        assert [name for name in given if stat.S_IMODE((made.root / name).stat().st_mode) != 0o600] == []
