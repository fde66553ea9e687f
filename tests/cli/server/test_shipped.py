"""REST v1 as PaddleCloud's shipped client reads it, over HTTP on loopback, and what the document says of that."""

from typing import Any

import httpx
import pytest

from jobd.life.model import State
from jobd.scheduling.quotas import JobLimits
from jobd.store.nodes import Policy
from pfs.quota import Limits
from tests.cli.server.test_restroutes import EMB, Service, service, site_of  # noqa: F401 (a fixture)
from tests.pfs.served import NO_TLS
from tests.shippedclient import AGENT, ShippedError

HOME = "/pfs/dc1/home/ann"
NOW = "2023-11-14T22:13:20Z"
CORP = {"username": "ann", "password": "secret: corp", "server": "r.example.org"}
LISTS = ("jobs", "trainingjobs", "pservers", "workers", "quota", "registry")
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def misfits(value: Any, schema: dict, where: str = "") -> list[str]:
    """Return where a value is not as a schema says, and what it has that the schema does not name."""
    known = schema.get("type", [])
    types = {"integer": int, **TYPES}
    if known and not isinstance(value, tuple(types[each] for each in ([known] if isinstance(known, str) else known))):
        return [f"{where} is {value!r}, not {known}"]
    if isinstance(value, list):
        return [text for each in value for text in misfits(each, schema.get("items", {}), f"{where}[]")]
    if not isinstance(value, dict) or not ("properties" in schema or "additionalProperties" in schema):
        return []
    named, other = schema.get("properties", {}), schema.get("additionalProperties")
    found = [f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value]
    found += [f"{where}.{key} has no schema" for key in value if key not in named and other is None]
    return found + [
        text for key, each in value.items() for text in misfits(each, named.get(key, other or {}), f"{where}.{key}")
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_gets_its_jobs_and_their_processes(service: Service, run, version: str) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client = site.shipped(version=version)
            assert await site.ask(client.jobs) == []
            number, node, tasks = await site.emb_runs(site.client())
            assert await site.ask(client.jobs) == [("emb", 2, 0, 0, NOW, None, 1, 1)]
            assert await site.ask(client.workers, "emb") == [
                (f"emb-{each}", "Running", NOW, None, None) for each in ("trainer-0", "trainer-1", "pserver-0")
            ]
            await site.ask(client.kill, "emb")
            assert await site.ask(client.jobs) == []
            await node.ends(tasks[0], code=139, reason="killed by SIGSEGV")
            await node.ends(*tasks[1:], code=143)
            await site.drive.until(number, State.CANCELLED)
            assert await site.ask(client.jobs) == [("emb", 0, 0, 2, NOW, NOW, 0, 1)]
            stopped = (NOW, 143, "it was ended by SIGTERM: Terminated")
            assert await site.ask(client.workers, "emb") == [
                ("emb-trainer-0", "Failed", NOW, 139, "killed by SIGSEGV"),
                ("emb-trainer-1", "Failed", *stopped),
                ("emb-pserver-0", "Succeeded", *stopped),
            ]

    run(main)


def test_it_gets_what_has_not_begun(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client = site.shipped()
            site.package()
            await site.ask(client.submit, **EMB | {"pservers": 0})
            await site.drive.submit("command: x\n", name="plain")
            assert await site.ask(client.jobs) == [
                ("plain", 0, 0, 0, None, None, None, None),
                ("emb", 0, 0, 0, None, None, 0, 2),
            ]
            assert await site.ask(client.workers, "plain") == [("plain-worker-0", "Pending", None, None, None)]

    run(main)


def test_it_gets_its_limits(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client = site.shipped()
            assert await site.ask(client.quota) == {}
            await site.drive.engine.set_policy(Policy(quotas={"ann": JobLimits(running=3, waiting=9, gpus=4)}))
            service.disk.counts.limit({"home/ann": Limits(size_bytes=1 << 30, files=5)})
            limits = {"alpha.kubernetes.io/nvidia-gpu": "4", "count/jobs.batch": "3", "requests.storage": "1Gi"}
            assert await site.ask(client.quota) == limits
            await site.emb_runs(site.client())
            (item,) = (await site.ask(site.client().call, "GET", "quota"))["items"]
            used = {"pods": "3", "cpu": "3", "memory": "3Gi"}
            assert item["status"]["used"].items() >= used.items()

    run(main)


def test_what_is_used_is_ones_own_with_the_tasks_of_arrays(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            await site.drive.submit("command: x\nimage: a:1\ngroups: [{name: a, resources: {cpu: 2}}]\narray: 0-1\n")
            await site.drive.submit("command: x\n", user=service.bob)
            node = await site.drive.attach(runtimes=["docker", "sandbox"])
            await node.starts(3)
            (item,) = (await site.ask(site.client().call, "GET", "quota"))["items"]
            assert (item["status"]["used"]["pods"], item["status"]["used"]["cpu"]) == ("2", "4")

    run(main)


def test_it_keeps_gets_and_forgets_credentials_and_jobs_name_them(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client, other = site.shipped(), site.client()
            await site.ask(client.keep_registry, "corp", **CORP)
            assert set(await service.secrets.names("ann")) == {"corp"}
            ((name, at),) = await site.ask(client.registries)
            told = await site.ask(other.call, "GET", "registry")
            assert (name, told["msg"]) == ("corp", [{"id": 0, "name": "corp", "data": at}])
            assert [item["metadata"]["name"] for item in told["items"]] == ["pcloud-registry-corp"]
            assert "secret" not in str(told).replace("'labels'", "")
            site.package()
            for said in ("corp", "pcloud-registry-corp"):
                await site.ask(client.submit, **EMB | {"registry": said, "image": "r.example.org/x"})
            await site.ask(client.forget_registry, "corp")
            assert await site.ask(client.registries) == []
            with pytest.raises(ShippedError, match="there is no registry corp"):
                await site.ask(client.forget_registry, "corp")

    run(main)


def test_it_takes_every_word_for_an_error_and_others_look_for_ok(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client, folder = site.shipped(), "/pfs/dc1/home/ann/jobs/emb"
            source = service.root / "home/ann/train.py"
            source.write_text("print()\n")
            await site.ask(client.put, source, f"{folder}/train.py")
            assert await site.ask(client.ls, folder, "dc1") == ["train.py"]
            await site.ask(client.submit, **EMB | {"jobPackage": folder})
            assert "emb-trainer-0" in await site.ask(client.logs, "emb")
            assert (await site.ask(site.client().call, "POST", "jobs", json=EMB))["msg"] == "OK"

    run(main)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_brings_files_that_are_new_and_sends_what_differs(service: Service, run, version: str) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client, source = site.shipped(version=version), service.root / "home/ann/source"
            assert await site.ask(client.mkdir, f"{HOME}/data") == [f"{HOME}/data"]
            source.write_bytes(b"a" * 4096 + b"b" * 4096 + b"c")
            assert await site.ask(client.upload, source, f"{HOME}/new", 4096) == [0, 4096, 8192]
            assert await site.ask(client.upload, source, f"{HOME}/data", 4096) == [0, 4096, 8192]
            source.write_bytes(b"a" * 4096 + b"B" * 4096 + b"c")
            assert await site.ask(client.upload, source, f"{HOME}/new", 4096) == [4096]
            assert (service.root / "home/ann/new").read_bytes() == source.read_bytes()
            with pytest.raises(ShippedError, match="can't del directory"):
                await site.ask(client.rm, f"{HOME}/data")
            assert await site.ask(client.rm, f"{HOME}/data", deep=True) == [f"{HOME}/data/source", f"{HOME}/data"]

    run(main)


REFUSED: list[tuple[str, str, str, dict]] = [
    ("POST", "jobs", "no topology or entry specified", {"json": {"name": "emb"}}),
    ("DELETE", "jobs", "there is no job emb", {"json": {"jobname": "emb"}}),
    ("GET", "pfs/files", "no such file or directory", {"params": {"method": "stat", "path": f"{HOME}/none"}}),
]


@pytest.mark.parametrize(("method", "what", "words", "how"), REFUSED)
def test_it_is_told_why_not_with_status_200_and_others_with_the_true_one(
    service: Service,  # noqa: F811
    run,
    method: str,
    what: str,
    words: str,
    how: dict,
) -> None:
    async def main() -> None:
        async with (
            site_of(service) as site,
            httpx.AsyncClient(base_url=site.url, verify=NO_TLS, trust_env=False) as client,
        ):
            for agent, told in ((AGENT, {200}), ("curl/8", {400, 404})):
                headers = {"user-agent": agent, "authorization": "Token ann"}
                answer = await client.request(method, f"/api/v1/{what}", headers=headers, **how)
                said = answer.json()
                assert answer.status_code in told
                assert words in said.get("msg", said.get("err"))
                assert said.get("code") in (None, 400, 404)
            stranger = await client.request(method, f"/api/v1/{what}", headers={"user-agent": AGENT}, **how)
            assert stranger.status_code == 401

    run(main)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/workers?jobname=none",  # of which it would take the items
        f"/api/v1/file?path={HOME}/none",  # which it would keep
        f"/api/v1/pfs/storage/chunks?path={HOME}/none&offset=0&chunksize=1",
    ],
)
def test_where_it_takes_what_it_is_told_as_it_is_the_status_is_true(service: Service, run, path: str) -> None:  # noqa: F811
    async def main() -> None:
        async with (
            site_of(service) as site,
            httpx.AsyncClient(base_url=site.url, verify=NO_TLS, trust_env=False) as client,
        ):
            answer = await client.get(path, headers={"user-agent": AGENT, "authorization": "Token ann"})
            assert answer.status_code == 404

    run(main)


def test_the_lists_are_as_the_document_says(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            _, node, tasks = await site.emb_runs(site.client())
            await node.ends(tasks[0], code=1)
            await site.ask(site.shipped().keep_registry, "corp", **CORP)
            await site.drive.engine.set_policy(Policy(quotas={"ann": JobLimits(gpus=4)}))
            doors = {(door.method, door.path): door for door in site.doors}
            for what in LISTS:
                schema = doors["GET", f"/api/v1/{what}"].tells[0].schema
                for more in (site.client(), site.client("bob")):
                    told = await site.ask(more.call, "GET", what)
                    assert misfits(told, schema, what) == []
                assert "items" in schema["required"]

    run(main)
