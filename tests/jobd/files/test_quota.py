"""`quota`: what one and one's groups have and may have."""

import re
from dataclasses import replace

import pytest

from jobd.scheduling.quotas import JobLimits
from jobd.store.nodes import Policy
from pfs.api import OpenFlags
from pfs.quota import Limits
from tests.jobd.engine.drive import driving


async def quota(fs) -> list[list[str]]:
    file = await fs.open("quota", OpenFlags.READ, 0)
    text = (await file.read(0, 1 << 16)).decode()
    await file.release()
    assert (await fs.getattr("quota")).size == len(text)
    return [re.split(" {2,}", line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["ann", "root"])
def test_who_has_no_limits_is_told_so_and_of_nobody_else(service, run, name):
    async def main():
        async with driving(service) as drive:
            who = {"ann": service.ann, "root": service.admin}[name]
            await drive.submit(user=service.bob)
            found = await quota(service.files(drive.engine, who))
            assert found == [
                ["OF", "WHAT", "USED", "LIMIT"],
                [name, "bytes", "not counted", "none"],
                [name, "files", "not counted", "none"],
                [name, "jobs running", "0", "none"],
                [name, "jobs waiting", "0", "none"],
                [name, "GPUs", "0", "none"],
            ]

    run(main)


def test_use_and_limits_of_oneself_and_of_ones_groups(service, run):
    async def main():
        async with driving(service) as drive:
            (service.root / "home/ann/f").write_bytes(bytes(1536))
            counts = service.disk.counts
            counts.limit({"home/ann": Limits(size_bytes=2 << 30, files=1000), "groups/ml": Limits(files=5)})
            counts.count_in_thread("home/ann", lambda: True)
            limits = {"ann": JobLimits(1, 4, 2), "groups/ml": JobLimits(gpus=8)}
            await drive.engine.set_policy(Policy(quotas=limits, members={"ann": frozenset({"ml"})}))
            node = await drive.attach(gpus=[{"uuid": "g", "index": 0, "model": "GTX", "memory_bytes": 1 << 30}])
            await drive.submit("command: x\nresources: '[GTX]'\n")
            await node.starts()
            await drive.submit()
            fs = service.files(drive.engine, replace(service.ann, groups=frozenset({"ml"})))
            found = await quota(fs)
            assert found[1:] == [
                ["ann", "bytes", "1.5KiB", "2GiB"],
                ["ann", "files", "1", "1,000"],
                ["ann", "jobs running", "1", "1"],
                ["ann", "jobs waiting", "1", "4"],
                ["ann", "GPUs", "1", "2"],
                ["groups/ml", "bytes", "0 bytes", "none"],
                ["groups/ml", "files", "0", "5"],
                ["groups/ml", "jobs running", "1", "none"],
                ["groups/ml", "jobs waiting", "1", "none"],
                ["groups/ml", "GPUs", "1", "8"],
            ]

    run(main)
