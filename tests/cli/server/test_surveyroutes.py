"""What everybody may know of all jobs, over HTTP: also of those of others, and of those that ended long ago."""

import pytest
import trio

from jobd.life.model import State
from jobd.store.jobs import DAY_NS
from tests.cli.server.test_restroutes import Service, service, site_of  # noqa: F401 (a fixture)

KNOWN = {"id", "user", "title", "state", "changed", "request", "place", "gpu_util_mean", "gpu_memory_mean"}


def test_everybody_is_told_of_everybodys_jobs_what_everybody_may_know(service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            ann, bob = site.client(), site.client("bob")
            running, _, _ = await site.emb_runs(ann)
            old = await site.drive.submit("command: x\nhold: true\ntitle: Old\nprivate: true\nresources: '2:[]'\n")
            await site.ask(ann.call, "DELETE", f"jobs/{old}")
            await site.drive.until(old, State.CANCELLED)
            service.now_ns += 100 * DAY_NS
            assert (await site.refused(bob.kill, str(old)))[0] == 404
            listed = (await site.ask(bob.call, "GET", "joblist"))["msg"]
            assert {row["id"] for row in listed} == {str(running), str(old)}
            assert {row["user"] for row in listed} == {"ann"}
            assert set(listed[0]) == KNOWN
            by_title = (await site.ask(bob.call, "GET", "joblist", params={"title": "O%"}))["msg"]
            assert [(row["id"], row["state"], row["request"]) for row in by_title] == [(str(old), "CANCELLED", "2:[]")]
            assert (await site.ask(bob.call, "GET", "joblist", params={"id": str(old)}))["msg"] == by_title
            here = (await site.ask(bob.call, "GET", "joblist", params={"id": str(running)}))["msg"]
            assert (here[0]["state"], here[0]["place"]) == ("RUNNING", "n0[]")
            orders = {"order": "-title,user", "limit": "1", "offset": "1"}
            assert (await site.ask(bob.call, "GET", "joblist", params=orders))["msg"] == by_title
            for nobody in ("99", "x", "-1", "", "9" * 30, "٣"):
                assert (await site.ask(bob.call, "GET", "joblist", params={"id": nobody}))["msg"] == []

    run(main)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"limit": "101"}, "limit is a number from 0 to 100"),
        ({"offset": "-1"}, "offset is a number"),
        ({"since": "yesterday"}, "since is a number"),
        ({"till": "9" * 18}, "till is a number"),
        ({"order": "size"}, "order is one of date, state, title, user"),
        ({"title": "%" * 201}, "title has 200 characters at most"),
    ],
)
def test_a_search_that_cannot_be_is_refused(said: dict[str, str], why: str, service: Service, run) -> None:  # noqa: F811
    async def main() -> None:
        async with site_of(service) as site:
            client = site.client()
            with trio.fail_after(20):
                status, words = await site.refused(client.call, "GET", "joblist", params=said)
            assert (status, why in words) == (400, True), words

    run(main)
