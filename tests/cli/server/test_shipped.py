"""REST v1 as PaddleCloud's shipped client reads it, over HTTP on loopback, and what the document says of that."""

from typing import Any

import pytest

from jobd.life.model import State
from jobd.scheduling.quotas import JobLimits
from jobd.store.nodes import Policy
from pfs.quota import Limits
from tests.cli.server.test_restroutes import EMB, Service, service, site_of  # noqa: F401 (a fixture)
from tests.shippedclient import ShippedError

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
            with pytest.raises(ShippedError, match="404"):
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
            with pytest.raises(ShippedError, match="400"):
                await site.ask(client.submit, **EMB | {"entry": ""})

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
