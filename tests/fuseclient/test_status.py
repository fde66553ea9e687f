"""What a mount says of itself comes back as it was, and what is no status is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseclient.status import Server, Status
from pfs.errors import Kind, PfsError

seconds = st.floats(0, 1e9)
servers = st.dictionaries(st.text(), st.builds(Server, since_s=seconds), max_size=3)


@given(st.builds(Status, mounted_s=seconds, servers=servers))
def test_a_status_comes_back_as_it_was(status: Status) -> None:
    assert Status.decode(status.encode()) == status


def test_a_status_of_many_datacenters_fits_into_an_attribute() -> None:
    found = json.loads(STATUS)
    found["servers"] = {f"datacenter-{number}": found["servers"]["dc1"] for number in range(100)}
    assert len(Status.decode(json.dumps(found).encode()).encode()) < 65536


STATUS = json.dumps(
    {
        "version": "1",
        "pid": 1,
        "mounted_s": 1.0,
        "options": "",
        "open_files": 0,
        "inodes": 1,
        "read_bytes": 0,
        "written_bytes": 0,
        "blocks": None,
        "servers": {
            "dc1": {
                "url": "https://dc1.example.org:8470",
                "connected": True,
                "since_s": 1.5,
                "leases": 200_000,
                **{name: {"hits": 10**12, "asked": 10**12} for name in ("attributes", "listings", "contents")},
                **dict.fromkeys(("fetched_bytes", "sent_bytes", "waiting_bytes", "waiting_operations"), 10**15),
            }
        },
    }
)


WRONG = (
    ('"pid": 1', '"p": 1'),
    ('"pid": 1', '"pid": "1"'),
    ('"mounted_s": 1.0', '"mounted_s": Infinity'),
    ('"options": ""', '"options": ["ro"]'),
    ('"connected": true', '"connected": 1'),
    ('"leases": 200000', '"leases": 1.5'),
    ('"leases": 200000', f'"leases": {10**400}'),
    ('"hits"', '"h"'),
    ('"hits": 1000000000000', '"hits": null'),
    ('"leases"', '"refused": [1], "leases"'),
    ('"blocks": null', '"blocks": {"rate": {"hits": 1, "asked": 2}, "held_bytes": 1, "limit_bytes": "2"}'),
)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "\xff", STATUS[:-1], *(STATUS.replace(right, wrong) for right, wrong in WRONG)]
)
def test_what_is_no_status_is_refused(text: str) -> None:
    with pytest.raises(PfsError, match="another version") as caught:
        Status.decode(text.encode("latin-1"))
    assert caught.value.kind is Kind.INVALID
