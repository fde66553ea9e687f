"""The files of one job: streams, texts, ctl."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pfs.api import Changes, Closing, OpenFlags
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import Link
from tests.jobd.engine.test_engine import heard

from .test_drafts import SPEC, drop, text_of


@pytest.fixture
def running(service, run):
    """Run an async test with one job, number 1 of ann, running on a node."""

    def within(main):
        async def outer():
            link = Link()
            async with service.running() as engine:
                fs = service.files(engine, service.ann)
                await engine.attach(service.node(), link, [])
                await drop(fs, "jobs/a.yaml", SPEC)
                await heard(link, "started")
                await engine.running("cmn0", "1.1.0.0", service.now_ns)
                await main(fs, engine)

        run(outer)

    return within


async def end(engine, service, code: int = 0) -> None:
    await engine.ended("cmn0", "1.1.0.0", code=code, reason="", out_of_memory=False, time_ns=service.now_ns)


def test_a_log_streams_and_ends_with_the_job(running, service):
    async def main(fs, engine):
        attr = await fs.getattr("jobs/1/log")
        assert attr.stream
        assert attr.size == (await fs.getattr("jobs/1/log.txt")).size  # so far
        file = await fs.open("jobs/1/log", OpenFlags.READ, 0)
        got = bytearray(await file.read(0, 1000))
        with pytest.raises(PfsError) as caught:
            await file.read(len(got), 1000, wait=False)
        assert caught.value.kind is Kind.WOULD_BLOCK

        async def read_on() -> None:
            while piece := await file.read(len(got), 7):
                got.extend(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on)
            await wait_all_tasks_blocked()
            await engine.output("cmn0", "1.1.0.0", 0, [(service.now_ns, 6)], b"hello\n")
            await end(engine, service)
        assert b"[worker 0] hello\n" in got
        attr = await fs.getattr("jobs/1/log")
        assert (attr.stream, attr.size) == (False, len(got))
        assert await text_of(fs, "jobs/1/log.txt") == await text_of(fs, "jobs/1/log") == bytes(got)

    running(main)


def test_a_process_tells_where_it_stands_by_now_also_through_a_file_that_is_open(running, service):
    async def main(fs, engine):
        file = await fs.open("jobs/1/processes/0.0/state", OpenFlags.READ, 0)
        assert await file.read(0, 100) == b"RUNNING\n"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, engine, service)
            await file.changed()
        await engine.ledger.wait(await engine.ledger.job(1))
        assert await file.read(0, 100) == b"SUCCEEDED\n"

    running(main)


@pytest.mark.parametrize("name", ["state", "status", "wait"])
def test_who_waited_for_the_end_of_a_job_is_told_without_a_question_to_the_database(
    running, service, monkeypatch, name
):
    looked_up = []

    async def look_up(job_id):
        looked_up.append(job_id)

    async def main(fs, engine):
        file = await fs.open(f"jobs/1/{name}", OpenFlags.READ, 0)
        if name != "wait":
            await file.read(0, 1 << 16)
        monkeypatch.setattr(service.store, "job", look_up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, engine, service, 3)
            await (file.read(0, 100) if name == "wait" else file.changed())
        assert b"3" in await file.read(0, 1 << 16) if name != "state" else await file.read(0, 100) == b"FAILED\n"
        assert looked_up == []

    running(main)


def test_log_txt_has_its_true_size_while_the_job_runs(running, service):
    async def main(fs, engine):
        file = await fs.open("jobs/1/log.txt", OpenFlags.READ, 0)
        before = (await fs.getattr("jobs/1/log.txt")).size
        assert before == len(await file.read(0, 1000)) > 0
        await engine.output("cmn0", "1.1.0.0", 0, [(service.now_ns, 6)], b"hello\n")
        assert (await file.getattr()).size == len(await file.read(0, 1000)) > before

    running(main)


def test_exit_code_exists_once_the_job_is_over_and_wait_waits_for_it(running, service):
    async def main(fs, engine):
        with pytest.raises(PfsError) as caught:
            await fs.getattr("jobs/1/exit_code")
        assert caught.value.kind is Kind.NOT_FOUND
        file = await fs.open("jobs/1/wait", OpenFlags.READ, 0)
        async with trio.open_nursery() as nursery:
            got = []

            async def wait() -> None:
                got.append(await file.read(0, 10))

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert got == []
            await end(engine, service, 3)
        assert got == [b"3\n"]
        assert await text_of(fs, "jobs/1/exit_code") == b"3\n"
        assert await text_of(fs, "jobs/1/wait") == b"3\n"

    running(main)


def test_what_will_not_change_any_more_may_be_kept_by_who_has_read_it(running, service):
    async def kept(fs, directory):
        found = {each.name: each.attr for each in await fs.listdir(directory) if each.attr.settled}
        for name, attr in found.items():
            file = await fs.open(f"{directory}/{name}", OpenFlags.READ, 0)
            assert file.attr == await fs.getattr(f"{directory}/{name}") == attr
            assert attr.valid_s > 0
            assert attr.blocks == -(-attr.size // 512)
        return set(found)

    async def main(fs, engine):
        assert await kept(fs, "jobs/1") == {"spec.yaml"}
        assert await kept(fs, "jobs/1/processes/0.0") == set()
        await engine.output("cmn0", "1.1.0.0", 0, [(service.now_ns, 6)], b"hello\n")
        await end(engine, service, 3)
        await engine.ledger.wait(await engine.ledger.job(1))
        assert await kept(fs, "jobs/1") == {"exit_code", "log", "log.txt", "spec.yaml", "wait"}
        assert await kept(fs, "jobs/1/processes/0.0") == {"exit_code", "log", "log.txt", "result"}

    running(main)


@pytest.mark.parametrize("name", ["log", "log.txt", "wait"])
def test_who_opened_it_while_the_job_ran_is_told_of_the_end_as_everybody_is(running, service, name):
    async def main(fs, engine):
        file = await fs.open(f"jobs/1/{name}", OpenFlags.READ, 0)
        assert await file.getattr() == file.attr
        assert file.attr.volatile
        await end(engine, service, 3)
        await engine.ledger.wait(await engine.ledger.job(1))
        # a mount that asked this one for the size would else keep an empty file for those who come now
        assert await file.getattr() == await fs.getattr(f"jobs/1/{name}")
        assert (await file.getattr()).size == len(await file.read(0, 1000)) > 0

    running(main)


def test_state_why_and_status_tell_where_it_stands(running, service):
    async def main(fs, engine):
        assert await text_of(fs, "jobs/1/state") == b"RUNNING\n"
        status = dict(line.partition(" ")[::2] for line in (await text_of(fs, "jobs/1/status")).decode().splitlines())
        assert (status["name"], status["user"], status["node"], status["exit_code"]) == ("a", "ann", "n0", "")
        await end(engine, service, 9)
        assert await text_of(fs, "jobs/1/state") == b"FAILED\n"
        assert await text_of(fs, "jobs/1/why") == b"exit code 9; the end of log.txt has its last words\n"

    running(main)


@pytest.mark.parametrize("name", ["state", "log", "log.txt", "wait", "spec.yaml", "status"])
def test_what_the_server_writes_cannot_be_written(running, name):
    async def main(fs, engine):
        with pytest.raises(PfsError) as caught:
            await fs.open(f"jobs/1/{name}", OpenFlags.WRITE, 0)
        assert caught.value.kind is Kind.DENIED

    running(main)


def test_ctl_is_obeyed_in_write_and_a_wrong_word_is_refused(running, service):
    async def main(fs, engine):
        assert b"kill" in await text_of(fs, "jobs/1/ctl")
        file = await fs.open("jobs/1/ctl", OpenFlags.WRITE | OpenFlags.TRUNCATE, 0)
        assert (await file.setattr(Changes(size=0))).size > 0  # it is cut, which means nothing
        with pytest.raises(PfsError) as caught:
            await file.write(0, b"kill\nkil\n")
        assert caught.value.kind is Kind.INVALID
        assert await text_of(fs, "jobs/1/state") == b"RUNNING\n"
        await file.write(99, b"kill\n")
        assert await text_of(fs, "jobs/1/state") == b"STOPPING\n"
        await file.flush(Closing.LAST)
        await file.release()
        await end(engine, service, 143)
        with pytest.raises(PfsError) as caught:
            await file.write(0, b"kill\n")
        assert caught.value.kind is Kind.BUSY

    running(main)


def test_a_jobs_data_can_be_read_and_not_written(running, service):
    async def main(fs, engine):
        (service.root / "jobs/1/data/out/model").write_text("m")
        assert await text_of(fs, "jobs/1/out/model") == b"m"
        with pytest.raises(PfsError) as caught:
            await fs.open("jobs/1/out/new", OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
        assert caught.value.kind is Kind.DENIED

    running(main)


def test_every_file_that_a_listing_names_is_there_with_the_same_identity(running):
    async def main(fs, engine):
        for entry in await fs.listdir("jobs/1"):
            assert (await fs.getattr(f"jobs/1/{entry.name}")).node_id == entry.attr.node_id

    running(main)
