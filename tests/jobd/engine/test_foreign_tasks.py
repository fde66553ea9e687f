"""What a node tells of tasks that are not its own changes nothing, and looks as if there were no such task."""

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from jobd.engine.sessions import Datacenter, NodeSessions
from jobd.identity import Claim
from jobd.life.life import State
from jobd.wire import encode_claim
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.perm import EVERYTHING, Scope, Subject
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import driving

TOLD: dict[str, dict[str, Any]] = {
    "task.running": {"time_ns": 7, "image": "sha256:x"},
    "task.news": {"time_ns": 7, "text": "pulled"},
    "task.output": {"offset": 0, "pieces": [(7, 3)]},
    "task.ended": {"time_ns": 7, "code": 3, "reason": ""},
}
BODY = {"task.output": b"hi\n"}


class Silent:
    """A node's connection on which the server asks for something, and is answered nothing."""

    async def ask(self, op: str, args: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        return {}, b""

    async def close(self) -> None:
        pass


@asynccontextmanager
async def stranger(drive, key_of: Subject):
    """Connect a node of somebody's."""
    there = NodeSessions(drive.engine, Datacenter("dc1", "root-id"), lambda: drive.service.now_ns)
    acts = key_of if key_of.admin else replace(key_of, scopes=EVERYTHING - {Scope.ADMIN})
    async with there.conversation(Identity(KeyKind.NODE, acts), Silent) as ask:
        hello = {"claim": encode_claim(Claim("stranger", token="s")), "attrs": {}, "runtimes": [], "gpus": []}
        await ask("node.hello", {**hello, "boot_id": "boot", "tasks": []}, b"")
        yield ask


@pytest.mark.parametrize("op", ["node.hello", "node.logs"])
def test_a_machines_own_key_is_good_for_that_machine_alone(service: Service, run, op: str) -> None:
    """A stolen key is no other node: not even with what that one is known by."""
    hello = {"attrs": {}, "runtimes": [], "gpus": [], "boot_id": "boot", "tasks": []}
    bound = {"victim"}

    async def is_bound(machine: str) -> bool:
        return machine in bound

    async def main() -> None:
        async with driving(service) as drive:
            there = NodeSessions(drive.engine, Datacenter("dc1", "root-id"), lambda: service.now_ns, is_bound=is_bound)

            async def come(name: str, token: str, key_of: str) -> None:
                identity = Identity(KeyKind.NODE, Subject("root", admin=True), machine=key_of)
                async with there.conversation(identity, Silent) as ask:
                    claim = {"claim": encode_claim(Claim(name, token=token))}
                    await ask(op, {**claim, **hello, "token": token}, b"")

            for name, token, key_of, says in (
                ("thief", "victim", "thief", "another machine's own"),
                ("victim", "victim", "", "has a key of its own"),
                ("thief", "elsewhere", "thief", "another machine's own"),
            ):
                with pytest.raises(PfsError, match=says) as caught:
                    await come(name, token, key_of)
                assert caught.value.kind is Kind.FORBIDDEN
            assert [row.name for row in drive.engine.fleet.rows() if row.name in ("thief", "victim")] == []
            if op == "node.hello":
                await come("victim", "victim", "victim")
                await come("other", "other", "")  # a key of any machine, as ever

    run(main)


def test_a_key_for_the_datacenters_machines_makes_nobodys_own_node(service: Service, run) -> None:
    """Whose it is was an administrator, and is none any more."""

    async def main() -> None:
        async with driving(service) as drive:
            there = NodeSessions(drive.engine, Datacenter("dc1", "root-id"), lambda: service.now_ns)
            hello = {"claim": encode_claim(Claim("machine", token="s")), "attrs": {}, "runtimes": [], "gpus": []}
            async with there.conversation(Identity(KeyKind.NODE, Subject("ann")), Silent) as ask:
                with pytest.raises(PfsError, match="ann has no say over them") as caught:
                    await ask("node.hello", {**hello, "boot_id": "boot", "tasks": []}, b"")
            assert caught.value.kind is Kind.FORBIDDEN
            assert "machine" not in [row.name for row in drive.engine.fleet.rows()]

    run(main)


async def outcome(ask, op: str, task: str) -> str:
    try:
        answer = await ask(op, {"task": task, **TOLD[op]}, BODY.get(op, b""))
    except PfsError as error:
        answer = (error.kind, error.message)
    return repr(answer).replace(task, "TASK")


@pytest.mark.parametrize("op", TOLD)
@pytest.mark.parametrize("user", ["root", "bob", "ann"])
def test_a_node_reaches_no_task_of_another_one(service: Service, run, op: str, user: str) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            job, _, task = await drive.one_runs()
            life, texts = await drive.life(job), await drive.texts(job)
            async with stranger(drive, Subject(user, admin=user == "root")) as ask:
                told = await outcome(ask, op, task)
                assert told == await outcome(ask, op, "99.1.0.0")
            await drive.quiet()
            assert (await drive.life(job), await drive.texts(job)) == (life, texts)

    run(main)


def test_a_node_reaches_no_attempt_that_is_over(service: Service, run) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            job, node, task = await drive.one_runs()
            await drive.engine.requeue(service.ann, job)
            await node.ends(task, code=143)
            again = (await node.starts(2))[1].task_id
            await node.runs(again)
            life = await drive.life(job)
            assert (life.attempt, life.state) == (2, State.RUNNING)
            await node.runs(task)
            await node.ends(task, code=3)
            await drive.engine.news(node.id, task, "pulled", service.now_ns)
            await drive.quiet()
            assert await drive.life(job) == life

    run(main)
