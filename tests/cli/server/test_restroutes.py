"""Jobs by REST v1, over HTTP on loopback: a client that knows nothing but its protocol, and a real engine."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from cli.sdk.rows import Credential
from cli.server import restroutes
from cli.server.restroutes import rest_routes
from jobd.life.model import State
from jobd.rest import desk as desk_module
from jobd.rest.desk import Desk
from jobd.scheduling.quotas import JobLimits
from jobd.store.nodes import Policy
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.perm import Scope
from pfs.quota import Limits
from pfs.server.doors import application
from pfs.server.routes import Gate
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving
from tests.pfs.served import NO_TLS, served
from tests.restclient import RestClient, RestError
from tests.shippedclient import ShippedClient

IMAGE = "paddlepaddle/paddle:0.11.0"
EMB = {"name": "emb", "entry": "python train.py", "image": IMAGE, "datacenter": "dc1", "parallelism": 2, "pservers": 1}


class Site:
    """A server with the doors of REST v1, a running engine, and a client for each of its people."""

    def __init__(self, service: Service, drive: Drive) -> None:
        self.service, self.drive = service, drive
        self._clients: list[RestClient | ShippedClient] = []

    async def _identify(self, token: str) -> Identity:
        people = {each.user: each for each in (self.service.ann, self.service.bob, self.service.admin)}
        people["reader"] = replace(self.service.ann, scopes=frozenset({Scope.READ}))
        if token not in people:
            raise PfsError(Kind.UNAUTHENTICATED, "nobody's token")
        return Identity(KeyKind.USER, people[token])

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        hub, engine = LeaseHub(), self.drive.engine
        gate = Gate(self._identify, lambda identity: LeasedTree(self.service.files(engine, identity.subject), hub), {})
        self.doors = rest_routes(gate, Desk(self.service.sources(engine), "dc1"))
        async with served(application(self.doors)) as server:
            self.url = server.url
            try:
                yield
            finally:
                for client in self._clients:
                    client.close()

    def client(self, who: str = "ann", **spelled: str) -> RestClient:
        made = RestClient(self.url, **spelled)
        self._clients.append(made)
        made.show(who)
        return made

    def shipped(self, who: str = "ann", version: str = "v1") -> ShippedClient:
        made = ShippedClient(self.url, version)
        self._clients.append(made)
        made.show(who)
        return made

    async def ask(self, work: Callable[..., Any], *words: Any, **named: Any) -> Any:
        """Let a client do something, in a thread."""
        return await trio.to_thread.run_sync(lambda: work(*words, **named))

    async def refused(self, work: Callable[..., Any], *words: Any, **named: Any) -> tuple[int, str]:
        with pytest.raises(RestError) as caught:
            await self.ask(work, *words, **named)
        return caught.value.status, caught.value.text

    def package(self, name: str = "emb", user: str = "ann") -> None:
        (self.service.root / f"home/{user}/jobs/{name}").mkdir(parents=True)

    async def emb_runs(self, client: RestClient) -> tuple[int, Any, list[str]]:
        """Submit a job of two trainers and a parameter server; return its number, its node, and its tasks."""
        self.package()
        number = await self.ask(client.submit, **EMB)
        node = await self.drive.attach(runtimes=["docker"])
        (server,) = await node.starts()
        await node.runs(server.task_id)
        tasks = [task.task_id for task in await node.starts(3)]
        await node.runs(*(task for task in tasks if task != server.task_id))
        await self.drive.until(number, State.RUNNING)
        return number, node, sorted(tasks)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def site_of(service: Service) -> AsyncIterator[Site]:
    async with driving(service) as drive:
        site = Site(service, drive)
        async with site.serving():
            yield site


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("command: x\n", None),
        ("src: tree:0123456789abcdef\n", None),  # that is still to be brought, as is
        ("job_package: jobs/emb\nentry: x\nimage: a:1\n", None),
        ("command: [\n", "line 2, column 1: "),
        ("command: x\ndepends_on: [99]\n", "depends_on: there is no job 99"),
        ("command: x\nimage: a:1\nregistry: corp\n", "corp"),
    ],
)
def test_a_spec_is_checked_and_not_submitted(service: Service, run, text: str, says: str | None) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            words = "POST", "specs/emb"
            if says is None:
                assert await site.ask(client.call, *words, content=text) == {"code": 200, "msg": "OK"}
            else:
                status, said = await site.refused(client.call, *words, content=text)
                assert (status, says in said) == (400, True), said
            assert await site.ask(client.jobs) == []

    run(main)


def test_a_job_is_submitted_listed_and_killed(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            number, node, tasks = await site.emb_runs(client)
            said = await site.ask(client.call, "GET", "jobs")
            (row,) = said["msg"]
            assert (said["code"], said["terminating"]) == (200, [])
            assert (row["id"], row["name"], row["parallelism"], row["pservers"]) == (number, "emb", 2, 1)
            assert row["job_package"] == "/pfs/dc1/home/ann/jobs/emb"
            assert row["status"] == {
                "active": 2,
                "succeeded": 0,
                "failed": 0,
                "submitTime": "2023-11-14T22:13:20Z",
                "startTime": "2023-11-14T22:13:20Z",
                "completionTime": None,
            }
            servers = (await site.ask(client.call, "GET", "pservers"))["msg"]
            assert servers == [{"id": number, "name": "emb", "ready": 1, "total": 1}]
            await site.ask(client.kill, "emb")
            assert (await site.ask(client.call, "GET", "jobs"))["terminating"] == ["emb"]
            await node.ends(*tasks, code=143)
            await site.drive.until(number, State.CANCELLED)
            (row,) = await site.ask(client.jobs)
            assert (row["state"], row["status"]["active"], row["status"]["failed"]) == ("CANCELLED", 0, 2)

    run(main)


def test_what_a_process_wrote_and_how_it_ended_is_told_of_each(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            number, node, tasks = await site.emb_runs(client)
            for worker, task in enumerate(tasks):
                text = "".join(f"line {n} of {worker}\n" for n in range(20)).encode()
                await site.drive.engine.output(node.id, task, 0, [(service.now_ns, len(text))], text)
            blocks = (await site.ask(client.logs, jobname="emb", n=2)).split("\n")
            assert blocks == [
                *(f"{'=' * 26}emb-trainer-0{'=' * 26}", "line 18 of 0", "line 19 of 0"),
                *(f"{'=' * 26}emb-trainer-1{'=' * 26}", "line 18 of 1", "line 19 of 1"),
                *(f"{'=' * 26}emb-pserver-0{'=' * 26}", "line 18 of 2", "line 19 of 2"),
            ]
            assert len((await site.ask(client.logs)).split("\n")) == 33  # of the newest job, 10 of each
            assert await site.ask(client.logs, jobname=str(number), w="emb-pserver-0", n=1) == "line 19 of 2"
            assert await site.ask(client.logs, w="0.1", n=1) == "line 19 of 1"
            assert await site.ask(client.logs, w="0.1", n=0) == ""
            await node.ends(tasks[0], code=139, reason="killed by SIGSEGV")
            await node.ends(*tasks[1:], code=143)
            await site.drive.until(number, State.FAILED)
            workers = (await site.ask(client.call, "GET", "workers", params={"jobname": "emb"}))["msg"]
            assert [(each["name"], each["status"], each["exit_code"], each["msg"]) for each in workers] == [
                ("emb-trainer-0", "Failed", 139, "killed by SIGSEGV"),
                ("emb-trainer-1", "Failed", 143, ""),
                ("emb-pserver-0", "Succeeded", 143, ""),
            ]
            assert {each["node"] for each in workers} == {"n0"}
            assert (await site.ask(client.call, "GET", "workers"))["msg"] == []
            assert await site.ask(client.logs, jobname="emb", w="emb-trainer-0", n=1) == "line 19 of 0"

    run(main)


def test_logs_that_are_long_are_told_from_their_ends(service: Service, run, monkeypatch) -> None:
    monkeypatch.setattr(desk_module, "LOG_PIECE_BYTES", 7)
    monkeypatch.setattr(desk_module, "LOG_BYTES_MAX", 70)

    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            _, node, tasks = await site.emb_runs(client)
            text = b"".join(b"%d\n" % n for n in range(1000)) + b"\xffend"
            await site.drive.engine.output(node.id, tasks[0], 0, [(service.now_ns, len(text))], text)
            assert await site.ask(client.logs, w="0.0", n=3) == "998\n999\n\ufffdend"
            assert (await site.ask(client.logs, w="0.0", n=1000)).endswith("\n998\n999\n\ufffdend")
            assert len(await site.ask(client.logs, w="0.0", n=1000)) <= 77
            monkeypatch.setattr(restroutes, "LOGS_BYTES_MAX", 1)
            assert "this is not shown any more; say w=<worker>" in await site.ask(client.logs)

    run(main)


def test_a_killed_job_is_removed_when_that_is_said(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            number, node, tasks = await site.emb_runs(client)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: site.ask(client.kill, "emb", rm=True))
                await node.stops(tasks[0])
                await node.ends(*tasks, code=143)
            assert await site.ask(client.jobs) == []
            assert await site.refused(client.kill, str(number)) == (404, f"there is no job {number}")
            again = await site.ask(client.submit, **EMB, hold=True)
            await site.ask(client.call, "DELETE", f"jobs/{again}")
            await site.drive.until(again, State.CANCELLED)
            status, words = await site.refused(client.kill, "emb")
            assert status == 409
            assert "is over" in words
            await site.ask(client.kill, "emb", rm=True)
            assert await site.ask(client.jobs) == []

    run(main)


def test_a_removed_job_is_brought_back_by_who_may(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client, words = site.client(), ("POST", "restore")
            site.package()
            number = await site.ask(client.submit, **EMB, hold=True)
            await site.ask(client.kill, "emb", rm=True)
            for who, status in (("bob", 404), ("reader", 403)):
                refused = await site.refused(site.client(who).call, *words, json={"jobname": str(number)})
                assert refused[0] == status, refused
            told = await site.ask(client.call, *words, json={"jobname": "emb"})
            assert told == {"code": 200, "msg": "OK", "id": number}
            assert [each["id"] for each in await site.ask(client.jobs)] == [number]
            again = await site.refused(client.call, *words, json={"jobname": str(number)})
            assert again == (409, f"job {number} is not in the trash")

    run(main)


def test_a_job_that_does_not_end_is_not_removed(service: Service, run, monkeypatch) -> None:
    monkeypatch.setattr(restroutes, "END_AWAITED_S", 0)

    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            number, _, _ = await site.emb_runs(client)
            assert (await site.refused(client.kill, "emb", rm=True))[0] == 409
            await site.drive.until(number, State.STOPPING)

    run(main)


@pytest.mark.parametrize(("version", "slash"), [("v1", ""), ("v2", "/"), ("v2", "")])
@pytest.mark.parametrize("what", ["jobs", "trainingjobs"])
def test_all_spellings_of_a_path_are_understood(service: Service, run, version: str, slash: str, what: str) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            site.package()
            client = site.client(version=version, slash=slash)
            number = (await site.ask(client.call, "POST", what, json=EMB))["id"]
            assert [row["id"] for row in (await site.ask(client.call, "GET", what))["msg"]] == [number]
            await site.ask(client.call, "DELETE", f"{what}/emb")
            await site.drive.until(number, State.CANCELLED)

    run(main)


def test_a_request_that_is_repeated_with_its_key_is_one_job(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            site.package()
            client = site.client()
            asked = {"json": EMB, "headers": {"idempotency-key": "k"}}
            numbers = {(await site.ask(client.call, "POST", "jobs", **asked))["id"] for _ in range(3)}
            assert len(numbers) == 1
            assert await site.ask(client.submit, **EMB) not in numbers

    run(main)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"entry": ""}, "no topology or entry specified"),
        ({"datacenter": "dc2"}, "no datacenter dc2; this is dc1"),
        ({"name": "other"}, "package not exist in cloud: /pfs/dc1/home/ann/jobs/other"),
        ({"jobPackage": "/pfs/dc1/home/bob/jobs/emb"}, "package not exist in cloud: /pfs/dc1/home/bob/jobs/emb"),
        ({"jobPackage": "/pfs/dc2/home/ann"}, "package not exist in cloud: /pfs/dc2/home/ann"),
        ({"jobPackage": 7}, "package not exist in cloud: 7"),
        ({"jobPackage": "/pfs/dc1/home/ann/\0"}, "package not exist in cloud"),
        ({"memory": "1Q"}, "memory: '1Q' is no size"),
        ({"memroy": "1Gi"}, "memory"),
        ({"registry": "none"}, "registry: there is no secret none"),
        ({"gpu": 3}, "You don't have enought GPU quota,request: 6, usage: 0, limit: 4"),
        (
            {"gpu": 1, "parallelism": None, "min_instance": 5},
            "You don't have enought GPU quota,request: 5, usage: 0, limit: 4",
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_the_reason(service: Service, run, more: dict, words: str) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            await site.drive.engine.set_policy(Policy(quotas={"ann": JobLimits(gpus=4)}))
            site.package()
            site.package(user="bob")
            status, told = await site.refused(site.client().submit, **EMB | more)
            assert status == (403 if "gpu" in more else 400)
            assert words in told
            assert await site.ask(site.client().jobs) == []

    run(main)


def test_an_elastic_job_counts_for_the_quota_of_gpus_with_its_fewest_trainers_however_it_is_submitted(
    service: Service, run
) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            await site.drive.engine.set_policy(Policy(quotas={"ann": JobLimits(gpus=2)}))
            site.package()
            client = site.client()
            for least, fits in ((2, True), (3, False)):
                fields = EMB | {"parallelism": 4, "gpu": 1, "min_instance": least, "max_instance": 4}
                text = json.dumps(fields | {"job_package": "jobs/emb"})
                if fits:
                    await site.ask(client.call, "POST", "specs/emb", content=text)
                    await site.drive.submit(text)
                    assert await site.ask(client.submit, **fields)
                else:
                    assert "needs 3 GPUs" in (await site.refused(client.call, "POST", "specs/emb", content=text))[1]
                    with pytest.raises(PfsError, match="needs 3 GPUs"):
                        await site.drive.submit(text)
                    assert "request: 3, usage" in (await site.refused(client.submit, **fields))[1]

    run(main)


def test_only_a_quota_of_storage_is_told_as_a_want_of_storage(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            site.package()
            client = site.client()
            service.disk.counts.limit({"home/ann": Limits(size_bytes=10)})
            assert (await site.refused(client.touch, "/pfs/dc1/home/ann/x", 11))[0] == 507
            for limits, says in ((JobLimits(waiting=0), "1 job would wait"), (JobLimits(running=0), "lets no job run")):
                await site.drive.engine.set_policy(Policy(quotas={"ann": limits}))
                status, told = await site.refused(client.submit, **EMB)
                assert (status, says in told) == (403, True), told
            assert (await site.refused(client.call, "POST", "specs/emb", content="command: x\n"))[0] == 403

    run(main)


@pytest.mark.parametrize(
    ("method", "what", "how", "status", "words"),
    [
        ("POST", "jobs", {"content": b"{"}, 400, "no JSON object"),
        ("POST", "jobs", {"content": b"[" * 200_000}, 400, "no JSON object"),
        ("DELETE", "jobs", {"json": {}}, 400, "must specify jobname"),
        ("DELETE", "jobs", {"json": {"jobname": 17}}, 400, "no text"),
        ("DELETE", "jobs", {"json": {"jobname": "emb", "rm": "yes"}}, 400, "rm as true or false"),
        ("DELETE", "jobs", {"json": {"jobname": "emb"}}, 404, "there is no job emb"),
        ("DELETE", "jobs", {"json": {"jobname": "9" * 400}}, 404, "there is no job 999"),
        ("DELETE", "jobs", {"json": {"jobname": "9" * 5000}}, 404, "there is no job 999"),
        ("DELETE", "jobs/emb", {}, 404, "there is no job emb"),
        ("GET", "logs", {}, 404, "there is no job"),
        ("GET", "logs", {"params": {"n": "-1"}}, 400, "n is a number"),
        ("GET", "logs", {"params": {"n": "1e3"}}, 400, "n is a number"),
        ("GET", "workers", {"params": {"jobname": "emb"}}, 404, "there is no job emb"),
        ("POST", "registry", {"json": {"name": "r"}}, 400, "server"),
        ("POST", "registry", {"json": {"name": "r", "server": "s", "username": "u", "password": " "}}, 400, "no cred"),
        ("POST", "registry", {"json": {"name": "../r", "server": "s", "username": "u", "password": "p"}}, 400, ""),
        ("POST", "registry", {"json": {"name": "-r", "server": "s", "username": "u", "password": "p"}}, 403, "no name"),
        ("DELETE", "registry", {"json": {"name": "r"}}, 404, "there is no registry r"),
        ("DELETE", "registry", {"json": {}}, 400, "'name'"),
    ],
)
def test_what_is_wrong_is_told_with_its_true_status(
    service: Service, run, method: str, what: str, how: dict, status: int, words: str
) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            found = await site.refused(site.client().call, method, what, **how)
            assert found[0] == status
            assert words in found[1]

    run(main)


def test_jobs_of_others_are_not_there(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            number, _, _ = await site.emb_runs(site.client())
            bob = site.client("bob")
            assert await site.ask(bob.jobs) == []
            assert (await site.ask(bob.call, "GET", "workers"))["msg"] == []
            for name in (str(number), "emb"):
                for work in (
                    lambda name=name: bob.kill(name),
                    lambda name=name: bob.logs(jobname=name),
                    lambda name=name: bob.call("GET", "workers", params={"jobname": name}),
                ):
                    assert await site.refused(work) == (404, f"there is no job {name}")
            root = site.client("root")
            assert await site.ask(root.jobs) == []
            await site.ask(root.kill, str(number))
            await site.drive.until(number, State.STOPPING)

    run(main)


def test_a_token_that_only_reads_commands_nothing(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            number, _, _ = await site.emb_runs(site.client())
            reader = site.client("reader")
            assert [row["id"] for row in await site.ask(reader.jobs)] == [number]
            assert (await site.refused(reader.kill, "emb"))[0] == 403
            assert (await site.refused(reader.submit, **EMB))[0] == 403
            credential = {"name": "r", "server": "s", "username": "u", "password": "p"}
            assert (await site.refused(reader.call, "POST", "registry", json=credential))[0] == 403

    run(main)


def test_a_text_in_the_place_of_a_name_hides_no_job(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            await service.files(site.drive.engine, service.ann).put("jobs/emb", b"scratch", None)
            number, _, _ = await site.emb_runs(site.client())
            await site.ask(site.client().kill, "emb")
            await site.drive.until(number, State.STOPPING)

    run(main)


def test_the_newest_jobs_are_listed_each_with_its_kind(service: Service, run, monkeypatch) -> None:
    monkeypatch.setattr(desk_module, "JOBS_MAX", 2)

    async def main() -> None:
        async with site_of(service) as site:
            for text in ("command: x\n", "command: x\narray: 0-3\n", "command: x\n"):
                await site.drive.submit(text)
            client = site.client()
            rows = await site.ask(client.jobs)
            assert [row["id"] for row in rows] == [7, 2]
            array = await site.refused(client.logs, jobname="2")
            assert array == (400, "job 2 is an array; ask for the log of a task, by its number")
            assert await site.ask(client.logs, jobname="3", w="0.0") == ""
            assert (await site.refused(client.logs, jobname="3", w="trainer-9"))[0] == 404

    run(main)


def test_use_and_limits_are_told(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            await site.emb_runs(site.client())
            await site.drive.submit("command: x\nresources: '[gtx]'\n")
            await site.drive.engine.set_policy(Policy(quotas={"ann": JobLimits(running=1, gpus=4)}))
            service.disk.counts.limit({"home/ann": Limits(size_bytes=1 << 30)})
            assert (await site.ask(site.client().call, "GET", "quota"))["msg"] == [
                {"name": "GPU", "used": 0, "limit": 4},
                {"name": "JobsRunning", "used": 1, "limit": 1},
                {"name": "JobsWaiting", "used": 1, "limit": None},
                {"name": "Bytes", "used": 0, "limit": 1 << 30},
                {"name": "Files", "used": 0, "limit": None},
            ]

    run(main)


def test_credentials_are_kept_listed_and_forgotten_and_never_shown(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            await service.secrets.keep("ann", "wandb", b"a key, no credential")
            for name in ("mine", "also"):
                credential = {"name": name, "server": "r.example.org", "username": "ann", "password": f"secret: {name}"}
                assert (await site.ask(client.call, "POST", "registry", json=credential))["msg"] == "OK"
            kept = (await site.ask(client.call, "GET", "registry"))["msg"]
            assert [(each["id"], each["name"]) for each in kept] == [(0, "also"), (1, "mine")]
            assert set(kept[0]) == set(Credential.__annotations__)
            assert "secret" not in str(kept)
            assert (await site.ask(site.client("bob").call, "GET", "registry"))["msg"] == []
            site.package()
            assert await site.ask(client.submit, **EMB | {"registry": "mine", "image": "r.example.org/x"})
            assert (await site.refused(client.call, "DELETE", "registry", json={"name": "wandb"}))[0] == 404
            gone = await site.ask(client.call, "DELETE", "registry", json={"name": "mine"})
            assert gone["msg"] == "registry: [mine] is deleted"
            assert [each["name"] for each in (await site.ask(client.call, "GET", "registry"))["msg"]] == ["also"]
            assert set(await service.secrets.names("ann")) == {"also", "wandb"}

    run(main)


def test_a_credential_whose_key_is_gone_is_none(service: Service, run) -> None:
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            credential = {"name": "r", "server": "s", "username": "u", "password": "p"}
            await site.ask(client.call, "POST", "registry", json=credential)
            (service.root / "server/secrets.key").unlink()
            assert (await site.ask(client.call, "GET", "registry"))["msg"] == []

    run(main)


def test_files_are_brought_and_the_job_runs_in_them(service: Service, run, tmp_path) -> None:
    source = tmp_path / "train.py"
    source.write_bytes(b"print()\n" * 1000)

    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            folder = "/pfs/dc1/home/me/jobs/emb"
            await site.ask(client.mkdir, folder)
            await site.ask(client.upload, source, f"{folder}/train.py", 4096)
            assert await site.ask(client.submit, **EMB | {"jobPackage": "./emb"}) == 1
            assert (await site.ask(client.jobs))[0]["job_package"] == "/pfs/dc1/home/ann/jobs/emb"

    run(main)
    assert (service.root / "home/ann/jobs/emb/train.py").read_bytes() == source.read_bytes()


def test_everybody_is_told_that_the_server_is_there_and_nobody_else_anything(service: Service, run) -> None:
    async def main() -> None:
        async with (
            site_of(service) as site,
            httpx.AsyncClient(base_url=site.url, verify=NO_TLS, trust_env=False) as client,
        ):
            for door in site.doors:
                answer = await client.request(door.method, door.path.replace("{name}", "emb"))
                if door.path == "/healthz":
                    assert (answer.status_code, answer.json()) == (200, {"code": 200, "msg": "OK"})
                else:
                    assert answer.status_code == 401, door.path
            assert (await client.get("/healthz/")).status_code == 200

    run(main)
