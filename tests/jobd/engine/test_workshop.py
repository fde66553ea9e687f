"""What becomes of a job's files: before it starts, when a process ends, and after the job is over."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd.engine import workshop as module
from jobd.engine.belongings import belongs, further
from jobd.engine.tasks import OURS
from jobd.engine.trainerfiles import LIST_BYTES_MAX
from jobd.engine.trash import TRASH_KEPT_S
from jobd.engine.workshop import DiskWorkshop
from jobd.job import Job
from jobd.life.events import Submitted
from jobd.life.life import fold
from jobd.manifest import (
    Manifest,
    Origin,
    Record,
    ShippedFile,
    ShippedFolder,
    ShippedLink,
    encode_manifest,
    encode_record,
    tree_id,
)
from jobd.spec.model import GroupSpec, JobSpec, Mount, Paddle
from pfs.api import OpenFlags
from pfs.disk.copytree import Limits
from pfs.disk.counting import UNLIMITED, Count
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.quota import Amount
from pfs.quota import Limits as FileLimits
from tests.jobd.conftest import Service
from tests.jobd.store.test_trees import hash_of

PATCH = b"-old\n+new\n"


class Shop:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.root = service.root
        self.jobs: dict[int, Job] = {}
        self.workshop = self.made()

    def made(self, prepare_s_max: float = 60.0) -> DiskWorkshop:
        return DiskWorkshop(
            self.service.disk,
            self.service.accounts.user,
            self.service.place,
            trees=self.service.trees,
            find_job=self._find,
            prepare_s_max=prepare_s_max,
        )

    async def _find(self, job_id: int) -> Job | None:
        return self.jobs.get(job_id)

    def job(self, number: int = 1, user: str = "ann", **fields: Any) -> Job:
        spec = JobSpec(name="j", title="j", groups=(GroupSpec("worker", 1, ("true",)),), **fields)
        life = fold([Submitted(time_ns=0)])
        made = self.jobs[number] = Job(number, user, spec, life)
        return made

    async def prepared(self, job: Job) -> Path:
        await self.workshop.make(job)
        await self.workshop.fill(job)
        return self.root / f"jobs/{job.id}/data"

    async def ship(self, user: str = "ann", origin: Origin | None = None) -> str:
        files = {"sub/run.sh": b"#!/bin/sh\n", "x": b"text"}
        entries = (
            ShippedFolder("empty", 0o755),
            ShippedLink("link", "sub"),
            *(ShippedFile(path, 0o755, len(data), hash_of(data)) for path, data in files.items()),
        )
        text = encode_manifest(Manifest(entries, origin))
        await self.service.trees.put(user, tree_id(text), text)
        receiver = self.service.trees.receive(user)
        for data in (*files.values(), PATCH):
            await receiver.feed(encode_record(Record(hash_of(data), 0, len(data), len(data))) + data)
        await receiver.close()
        return f"tree:{tree_id(text)}"


@pytest.fixture
def shop(service: Service) -> Shop:
    return Shop(service)


async def refused(work: Any) -> PfsError:
    with pytest.raises(PfsError) as caught:
        await work
    return caught.value


# ---- preparing


def test_what_a_server_had_begun_to_make_is_its_owners_project_as_what_is_made_at_once(
    shop: Shop, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[tuple[int, list[str]]] = []
    monkeypatch.setattr(module, "set_project", lambda fd, number: marked.append((number, os.listdir(fd))))
    monkeypatch.setattr(shop.service.disk.projects, "are_kept", True)
    (shop.root / "jobs/2/data").mkdir(parents=True)  # and then it was killed

    uid = os.geteuid()

    async def user(name: str) -> Subject:
        return Subject(name, uid=uid)

    monkeypatch.setattr(shop.workshop, "_user", user)

    async def main() -> None:
        for number in (1, 2):
            await shop.workshop.make(shop.job(number))
        assert marked == [(uid, []), (uid, [])]  # before there is anything in it

    run(main)


def test_a_shipped_tree_is_laid_out_as_it_was(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job(src=await shop.ship())
        await shop.workshop.make(job)
        assert await shop.workshop.fill(job) == "Copied 5 files, 14 bytes, as it was shipped"
        src = shop.root / "jobs/1/data/src"
        assert (src / "sub/run.sh").read_bytes() == b"#!/bin/sh\n"
        assert os.access(src / "sub/run.sh", os.X_OK)
        assert os.readlink(src / "link") == "sub"
        assert os.listdir(src / "empty") == []

    run(main)


def test_where_a_tree_came_from_stays_with_the_job(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        origin = Origin("origin", "https://example.org/x", "1" * 40, 2, hash_of(PATCH), len(PATCH))
        job = shop.job(src=await shop.ship(origin=origin))
        assert await shop.workshop.origin(job) is None
        await shop.prepared(job)
        assert await shop.workshop.origin(job) == origin
        assert await shop.workshop.read_patch(job) == PATCH
        plain = shop.job(2, src=await shop.ship())
        await shop.prepared(plain)
        assert await shop.workshop.origin(plain) is None
        assert (await refused(shop.workshop.read_patch(plain))).kind is Kind.NOT_FOUND

    run(main)


def test_a_folder_of_a_domain_is_copied(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        (shop.root / "home/ann/pkg").mkdir()
        (shop.root / "home/ann/pkg/x").write_text("text")
        for number, src in enumerate(("pkg", "pkg/", "/pfs/dc1/home/ann/pkg"), 1):
            assert ((await shop.prepared(shop.job(number, src=src))) / "src/x").read_text() == "text"
        job = shop.job(9, src="/pfs/dc1/home/bob")
        assert (await refused(shop.prepared(job))).message == "src: there is no /pfs/dc1/home/bob"

    run(main)


def test_keep_of_another_job_is_copied_with_its_links_as_links(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        first = await shop.prepared(shop.job(1))
        (first / "keep/model").write_text("weights")
        (first / "keep/latest").symlink_to("model")
        (first / "keep/away").symlink_to("/etc/passwd")
        job = shop.job(2, continue_from=1)
        assert await shop.workshop.check(job.spec, shop.service.ann) is None
        second = await shop.prepared(job)
        assert (second / "keep/model").read_text() == "weights"
        assert os.readlink(second / "keep/latest") == "model"
        assert os.readlink(second / "keep/away") == "/etc/passwd"

    run(main)


def test_keep_of_a_job_that_one_may_not_read_or_that_is_gone_is_not_to_be_had(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        await shop.prepared(shop.job(1))
        for user, number in ((shop.service.bob, 1), (shop.service.ann, 99)):
            error = await refused(shop.workshop.check(shop.job(2, continue_from=number).spec, user))
            assert (error.kind, error.message) == (Kind.INVALID, f"continue: there is no job {number}")
        assert await shop.workshop.check(shop.job(2, continue_from=1).spec, shop.service.admin) is None
        assert (await refused(shop.prepared(shop.job(3, user="bob", continue_from=1)))).kind is Kind.INVALID
        await shop.workshop.expire(1)
        assert "keep of job 1 is gone" in (await refused(shop.prepared(shop.job(4, continue_from=1)))).message

    run(main)


def test_more_than_allowed_fails_the_preparation(shop: Shop, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMITS", Limits(2, 1 << 30))

    async def main() -> None:
        tree = await shop.ship()
        first = await shop.prepared(shop.job(1))
        for name in "abc":
            (first / "keep" / name).touch()
        assert (await refused(shop.prepared(shop.job(2, src=tree)))).kind is Kind.TOO_LARGE
        assert "keep of job 1 has more" in (await refused(shop.prepared(shop.job(3, continue_from=1)))).message

    run(main)


def test_a_preparation_that_takes_too_long_fails_with_the_reason(shop: Shop, run: Callable, monkeypatch) -> None:
    async def for_ever(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(module, "copy_tree", for_ever)
    shop.workshop = shop.made(prepare_s_max=0.01)

    async def main() -> None:
        assert (await refused(shop.prepared(shop.job(src="pkg")))).kind is Kind.TIMED_OUT

    run(main)


def test_two_are_prepared_at_a_time_and_who_waits_can_be_killed(shop: Shop, run: Callable, monkeypatch) -> None:
    begun: list[str] = []

    async def for_ever(_disk: object, _root: str, path: str, *_: object, **__: object) -> None:
        begun.append(path)
        await trio.sleep_forever()

    monkeypatch.setattr(module, "copy_tree", for_ever)

    async def main() -> None:
        scopes = [trio.CancelScope() for _ in range(4)]

        async def prepare(number: int) -> None:
            with scopes[number]:
                await shop.workshop.fill(shop.job(number, src=f"p{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(prepare, number)
                with trio.fail_after(20):
                    while shop.workshop._turns.statistics().tasks_waiting + len(begun) <= number:
                        await wait_all_tasks_blocked()
            assert begun == ["p0", "p1"]
            scopes[2].cancel()
            await trio.testing.wait_all_tasks_blocked()
            scopes[0].cancel()
            with trio.fail_after(20):
                while len(begun) < 3:
                    await wait_all_tasks_blocked()
            assert begun == ["p0", "p1", "p3"]
            nursery.cancel_scope.cancel()

    run(main)


# ---- refused at submit


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"src": "tree:" + "0" * 64}, "not on the server"),
        ({"src": "tree:../../x"}, "no id of a shipped tree"),
        ({"src": "/pfs/dc1/home/bob"}, "there is no /pfs/dc1/home/bob"),
        ({"src": "/pfs/dc1/jobs"}, "in no data domain"),
        ({"mounts": (Mount("/pfs/dc1/home/bob", "/data", True),)}, "mounts: there is no"),
        ({"mounts": (Mount("missing", "/data", True),)}, "home/ann/missing cannot be used"),
        ({"mounts": (Mount("../bob", "/data", True),)}, "cannot be a file name"),
        ({"mounts": (Mount("link", "/data", True),)}, "home/ann/link cannot be used"),
        ({"paddle": Paddle("/pfs/dc1/home/bob/pkg")}, "job_package: there is no"),
        ({"paddle": Paddle("file")}, "home/ann/file cannot be used"),
    ],
)
def test_what_is_not_there_or_not_the_owners_is_refused_at_submit(
    shop: Shop, run: Callable, fields: dict[str, Any], says: str
) -> None:
    (shop.root / "home/ann/link").symlink_to(shop.root / "home/bob")
    (shop.root / "home/ann/file").touch()

    async def main() -> None:
        error = await refused(shop.workshop.check(shop.job(**fields).spec, shop.service.ann))
        assert says in error.message
        assert error.kind in (Kind.INVALID, Kind.NOT_FOUND)

    run(main)


def test_what_is_there_is_not_refused(shop: Shop, run: Callable) -> None:
    (shop.root / "home/ann/data").mkdir()

    async def main() -> None:
        mounts = (Mount("data", "/data", True), Mount("/pfs/dc1/shared", "/all", False))
        tree = await shop.ship()
        await shop.workshop.check(shop.job(src=tree, mounts=mounts, paddle=Paddle("data")).spec, shop.service.ann)
        assert (await refused(shop.workshop.check(shop.job(src=tree).spec, shop.service.bob))).kind is Kind.INVALID

    run(main)


# ---- the list of what trainers learn from


@pytest.mark.parametrize(
    ("package", "folder"),
    [(None, "jobs/1/data/src"), ("emb", "home/ann/emb"), ("/pfs/dc1/home/ann/emb", "home/ann/emb")],
)
def test_the_list_of_a_package_is_read_where_the_job_runs(
    shop: Shop, run: Callable, package: str | None, folder: str
) -> None:
    async def main() -> None:
        job = shop.job(paddle=Paddle(package))
        await shop.workshop.make(job)
        (shop.root / folder).mkdir(exist_ok=True)
        assert await shop.workshop.train_list(job) is None
        (shop.root / folder / "train.list").write_bytes(b"a\n\xff")
        assert await shop.workshop.train_list(job) == b"a\n\xff"

    run(main)


def a_link(path: Path) -> None:
    path.with_name("own").write_text("a\n")
    path.symlink_to("own")


def a_link_out(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def a_file_of(size: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(b"\n" * size)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_link, "cannot be read: it is a link, and none is followed; "),
        (a_link_out, "cannot be read: it is a link, and none is followed; "),
        (os.mkfifo, "is no ordinary file; "),
        (Path.mkdir, "is no ordinary file; "),
        (lambda path: os.mknod(path, 0o600 | stat.S_IFSOCK), "cannot be read: No such device or address; "),
        (a_file_of(LIST_BYTES_MAX + 1), "has more than 4 MiB, which is too much to divide; "),
    ],
)
def test_a_list_that_is_no_file_or_has_too_much_is_refused_at_once(
    shop: Shop, run: Callable, make: Callable[[Path], object], says: str
) -> None:
    package = shop.root / "home/ann/emb"
    package.mkdir()
    make(package / "train.list")

    async def main() -> None:
        with trio.fail_after(60):
            error = await refused(shop.workshop.train_list(shop.job(paddle=Paddle("emb"))))
        assert error.message.startswith(f"train.list {says}")
        assert error.kind not in OURS  # the job fails, and is not tried again and again

    run(main)


def test_a_list_as_large_as_may_be_is_read(shop: Shop, run: Callable) -> None:
    (shop.root / "home/ann/emb").mkdir()
    a_file_of(LIST_BYTES_MAX)(shop.root / "home/ann/emb/train.list")

    async def main() -> None:
        text = await shop.workshop.train_list(shop.job(paddle=Paddle("emb")))
        assert text is not None
        assert len(text) == LIST_BYTES_MAX

    run(main)


def test_the_list_of_a_package_that_the_owner_may_not_read_any_more_is_refused(shop: Shop, run: Callable) -> None:
    (shop.root / "home/bob/emb").mkdir(parents=True, exist_ok=True)
    (shop.root / "home/bob/emb/train.list").write_text("a\n")

    async def main() -> None:
        error = await refused(shop.workshop.train_list(shop.job(paddle=Paddle("/pfs/dc1/home/bob/emb"))))
        assert error.kind is Kind.NOT_FOUND

    run(main)


# ---- results


def test_a_result_is_the_beginning_of_what_the_process_wrote_in_this_attempt(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job()
        tmp = await shop.prepared(job) / "tmp"
        assert await shop.workshop.read_result(job, 0, 0) == ""
        (tmp / "result.0.0.0").write_text("of the attempt before")
        (tmp / "result.1.0.0").write_bytes(b"0.97 \xff\n")
        (tmp / "result.1.1.2").write_bytes(b"x" * 100_000)
        assert await shop.workshop.read_result(job, 0, 0) == "0.97 �\n"
        assert await shop.workshop.read_result(job, 1, 2) == "x" * 65_536

    run(main)


def test_a_result_that_is_no_file_is_none(shop: Shop, run: Callable, tmp_path: Path) -> None:
    async def main() -> None:
        job = shop.job()
        tmp = await shop.prepared(job) / "tmp"
        (tmp / "result.1.0.0").symlink_to("/etc/passwd")
        os.mkfifo(tmp / "result.1.0.1")
        (tmp / "result.1.0.2").mkdir()
        for process in range(3):
            assert await shop.workshop.read_result(job, 0, process) == ""
        (tmp / "result.1.0.2").rmdir()
        tmp.rename(tmp.parent / "moved")
        tmp.symlink_to("/etc")
        assert await shop.workshop.read_result(job, 0, 0) == ""

    run(main)


# ---- keeping


def test_at_the_end_only_tmp_goes(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job()
        data = await shop.prepared(job)
        for name in ("src/x", "keep/x", "out/x", "tmp/x"):
            (data / name).write_text("text")
        for _ in range(2):
            await shop.workshop.tidy(job)
        assert sorted(str(path.relative_to(data)) for path in data.rglob("x")) == ["keep/x", "out/x", "src/x"]
        assert not (data / "tmp").exists()
        assert os.listdir(shop.root / "server/trash") == []
        await shop.workshop.make(job)
        await shop.workshop.tidy(job)

    run(main)


def test_what_a_crash_left_on_its_way_out_does_not_hold_up_what_follows(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job()
        await shop.prepared(job)
        (shop.root / "server/trash/1.tmp/full").mkdir(parents=True)
        (shop.root / "server/trash/1.tmp.123/full").mkdir(parents=True)
        await shop.workshop.tidy(job)
        assert os.listdir(shop.root / "server/trash") == ["1.tmp.123"]
        await shop.workshop.trash.sweep(0.0)
        assert os.listdir(shop.root / "server/trash") == []

    run(main)


def test_an_expired_job_has_nothing_on_disk_but_where_it_came_from(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        shipped = shop.job(1, src=await shop.ship(origin=Origin(hash="1" * 40)))
        plain = shop.job(2)
        for job in (shipped, plain):
            await shop.prepared(job)
            (shop.root / f"jobs/{job.id}/logs").mkdir()
        assert sorted(await shop.workshop.on_disk("data", "logs")) == [1, 2]
        for _ in range(2):
            await shop.workshop.expire(1)
            await shop.workshop.expire(2)
        assert await shop.workshop.on_disk("data", "logs") == []
        assert os.listdir(shop.root / "jobs") == ["1"]
        origin = await shop.workshop.origin(shipped)
        assert origin is not None
        assert origin.hash == "1" * 40

    run(main)


def test_a_removed_job_goes_at_once_and_its_files_after_two_weeks(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job()
        await shop.prepared(job)
        for _ in range(2):
            await shop.workshop.trash.put(job.id)
        assert os.listdir(shop.root / "jobs") == []
        moved = shop.root / "server/trash/1"
        at_s = moved.stat().st_mtime
        await shop.workshop.trash.sweep(at_s + TRASH_KEPT_S - 1)
        assert (moved / "data/src").is_dir()
        await shop.workshop.trash.sweep(at_s + TRASH_KEPT_S)
        assert not moved.exists()

    run(main)


def test_what_a_removed_job_had_is_brought_back_with_its_times(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        job = shop.job()
        await shop.prepared(job)
        source = shop.root / "jobs/1/data/src"
        before = source.stat()
        await shop.workshop.trash.put(job.id)
        for _ in range(2):
            await shop.workshop.trash.bring_back(job.id)
            assert (source.stat().st_ino, source.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert os.listdir(shop.root / "server/trash") == []
        await shop.workshop.trash.put(job.id)
        assert not source.exists()

    run(main)


# ---- quotas


def limited(shop: Shop, **limits: int) -> Count:
    """Limit what ann may hold, count it, and return what counts it."""
    counts = shop.service.disk.counts
    counts.further = further(lambda user: [job.id for job in shop.jobs.values() if job.user == user])
    counts.belongs = belongs(lambda number: shop.jobs[number].user if number in shop.jobs else None)
    counts.limit({"home/ann": FileLimits(**limits)})
    counts.count_in_thread("home/ann", lambda: True)
    return counts.of("home/ann")


def test_what_is_copied_for_a_job_counts_for_its_owner_and_is_refused_above_the_limit(
    shop: Shop, run: Callable
) -> None:
    async def main() -> None:
        home = shop.root / "home/ann/code"
        home.mkdir()
        (home / "a").write_bytes(bytes(400))
        count = limited(shop, size_bytes=1000)
        await shop.prepared(shop.job(src="/pfs/dc1/home/ann/code"))
        assert count.used.size_bytes == 800
        error = await refused(shop.prepared(shop.job(2, src="/pfs/dc1/home/ann/code")))
        assert (error.kind, "800 of 1,000 bytes in use, and 400 more do not fit" in error.message) == (Kind.QUOTA, True)
        await shop.prepared(shop.job(3, user="bob"))  # whose quota is not this one
        shop.service.disk.counts.count_in_thread("home/ann", lambda: True)
        hosts = sum(len((shop.root / f"jobs/{number}/data/tmp/hostfile").read_bytes()) for number in (1, 2))
        assert count.used.size_bytes == 800 + hosts

    run(main)


def test_a_running_job_finds_in_its_own_folder_what_its_owner_has_left(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        await shop.prepared(shop.job())
        count = limited(shop, size_bytes=1000)
        data = shop.service.disk.domain("jobs/1/data", None)
        before = count.used
        file = await data.open("out/model", OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
        await file.write(0, bytes(500))
        assert (await refused(file.write(500, bytes(501)))).kind is Kind.QUOTA
        await file.release()
        assert count.used == Amount(before.size_bytes + 500, before.files + 1)
        assert (await data.statfs()).bytes_free == 1000 - count.used.size_bytes
        assert shop.service.disk.counts.of("jobs/99/data") is UNLIMITED
        del shop.jobs[1]  # it is over, and nobody writes there; it was thrown away, and counts no more
        shop.service.disk.counts.count_in_thread("home/ann", lambda: True)
        assert count.used == Amount()

    run(main)


def test_above_a_limit_no_job_is_taken_in(shop: Shop, run: Callable) -> None:
    async def main() -> None:
        (shop.root / "home/ann/f").write_bytes(bytes(100))
        spec, ann = shop.job().spec, shop.service.ann
        limited(shop, size_bytes=100)
        await shop.workshop.check(spec, ann)
        (shop.root / "home/ann/f").write_bytes(bytes(101))  # a job did, past the service
        limited(shop, size_bytes=100)
        error = await refused(shop.workshop.check(spec, ann))
        says = "ann's quota has 101 of 100 bytes in use; remove something, or ask an administrator for more"
        assert (error.kind, error.message) == (Kind.QUOTA, says)
        limited(shop, files=0)
        assert "1 of 0 files in use" in (await refused(shop.workshop.check(spec, ann))).message
        await shop.workshop.check(spec, shop.service.bob)
        shop.service.disk.counts.limit({"groups/ml": FileLimits(files=0)})
        (shop.root / "groups/ml").mkdir()
        (shop.root / "groups/ml/f").touch()
        shop.service.disk.counts.count_in_thread("groups/ml", lambda: True)
        error = await refused(shop.workshop.check(spec, replace(ann, groups=frozenset({"ml"}))))
        assert "the quota of group ml has 1 of 0 files in use" in error.message

    run(main)
