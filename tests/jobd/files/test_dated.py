"""The times of files that are made from things whose changes nobody dates: `me`, `quota` and `aliases/`."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from jobd.store.nodes import Policy
from pfs.api import Closing, OpenFlags
from pfs.tree.service import TreeFileSystem
from tests.jobd.conftest import SECOND_NS, Service
from tests.jobd.engine.drive import Drive, driving

Run = Callable[[Callable[[], Awaitable[None]]], None]
Change = Callable[[Drive, TreeFileSystem], Awaitable[object]]
PATHS = ("me", "quota", "aliases", "aliases/gtx", "secrets")
DIRECTORIES = ("aliases", "secrets")


async def write(fs: TreeFileSystem, path: str, text: bytes) -> None:
    file = await fs.open(path, OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
    await file.write(0, text)
    await file.flush(Closing.LAST)
    await file.release()


CHANGES: dict[str, tuple[Change, set[str]]] = {
    "nothing": (lambda drive, fs: fs.getattr("me"), set()),
    "a choice": (lambda drive, fs: write(fs, "me", b"autoshare ml\n"), {"me"}),
    "a secret": (lambda drive, fs: write(fs, "secrets/wandb", b"hush\n"), {"secrets"}),
    "a job": (lambda drive, fs: drive.submit(), {"quota"}),
    "another model": (
        lambda drive, fs: drive.engine.set_policy(Policy(aliases={"gtx": "GTX 1080"})),
        {"aliases/gtx"},
    ),
    "another alias": (
        lambda drive, fs: drive.engine.set_policy(Policy(aliases={"gtx": "GTX 1070", "k80": "Tesla K80"})),
        {"aliases"},
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_time_is_that_of_the_change_and_nothing_else_moves_it(service: Service, run: Run, what: str) -> None:
    change, changed = CHANGES[what]

    async def main() -> None:
        async with driving(service) as drive:
            await drive.engine.set_policy(Policy(aliases={"gtx": "GTX 1070"}))
            service.accounts.join_now("ml", "ann")
            fs = service.files(drive.engine, replace(service.ann, groups=frozenset({"ml"})))
            before = {path: await times(fs, path) for path in PATHS}
            assert set(before.values()) == {(service.now_ns, service.now_ns)}
            service.now_ns += 60 * SECOND_NS
            await change(drive, fs)
            found = {path: await times(fs, path) for path in PATHS}
            service.now_ns += 60 * SECOND_NS
            assert {path: await times(fs, path) for path in PATHS} == found
            assert {path for path in PATHS if found[path] != before[path]} == changed
            assert {found[path] for path in changed} <= {(service.now_ns - 60 * SECOND_NS,) * 2}

    run(main)


async def times(fs: TreeFileSystem, path: str) -> tuple[int, int]:
    attr = await fs.getattr(path)
    file = None if path in DIRECTORIES else await fs.open(path, OpenFlags.READ, 0)
    if file is not None:
        assert file.attr.mtime_ns == attr.mtime_ns
        await file.release()
    return attr.mtime_ns, attr.ctime_ns
