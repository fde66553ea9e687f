"""Where the datacenter's authority is kept, who may read it, when certificates are made anew, and what is shown."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.server.datacenter import Store, make_data_root
from cli.server.listening import Asked
from cli.server.ownauthority import OwnAuthority, check_free, own_names
from pfs.certificates import read_certificate
from pfs.errors import Kind, PfsError
from pfs.keys import authority_of_key, hash_of
from pfs.protocol.sockets import Tls
from tests.jobd.conftest import migrated_database

DAY_NS = 24 * 3600 * 10**9
NOW_NS = time.time_ns()
URL = "https://dc1.example.org:8470"


@pytest.fixture
def own(tmp_path: Path) -> OwnAuthority:
    made = OwnAuthority(str(tmp_path))
    made.make("dc1", NOW_NS)
    return made


def names(own: OwnAuthority) -> frozenset[str]:
    return read_certificate(Path(own.server_file).read_bytes()).names


def test_what_is_kept_is_read_by_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        own = OwnAuthority(str(tmp_path))
        own.make("dc1", NOW_NS)
        own.certify_server(["dc1"], NOW_NS)
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(own.folder).iterdir()}
    assert found == dict.fromkeys(("authority.pem", "authority-key.pem", "server.pem"), 0o600)
    assert stat.S_IMODE(os.stat(own.folder).st_mode) == 0o700


def test_an_authority_is_made_once(own: OwnAuthority) -> None:
    before = own.certificate()
    own.make("dc1", NOW_NS)
    assert own.certificate() == before


def test_a_certificate_is_made_anew_for_further_names_and_keeps_those_that_it_had(own: OwnAuthority) -> None:
    assert own.certify_server(["dc1"], NOW_NS)
    assert not own.certify_server(["dc1"], NOW_NS)
    assert own.certify_server(["10.0.0.1"], NOW_NS)
    assert names(own) == {"dc1", "10.0.0.1"}
    assert own.certify_server(["dc1"], NOW_NS + 380 * DAY_NS)
    assert names(own) == {"dc1", "10.0.0.1"}
    assert not own.certify_server(["dc1"], NOW_NS + 380 * DAY_NS)


def test_a_key_that_is_lost_is_told(own: OwnAuthority) -> None:
    (Path(own.folder) / "authority-key.pem").unlink()
    with pytest.raises(PfsError, match=r"authority-key\.pem cannot be read: No such file.*restore it") as caught:
        own.certify_server(["dc1"], NOW_NS)
    assert caught.value.kind is Kind.IO


def test_a_machine_knows_its_own_names() -> None:
    assert {"localhost", "127.0.0.1", "::1"} <= set(own_names())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    check_free([str(tmp_path / "b")])
    for path, kind in ((tmp_path / "a", Kind.EXISTS), (tmp_path / "none/a", Kind.NOT_FOUND)):
        with pytest.raises(PfsError) as caught:
            check_free([str(path)])
        assert caught.value.kind is kind


# ---- a datacenter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    root = tmp_path / "data"
    make_data_root(str(root))
    shutil.copy(migrated_database(), root / "server/pfs.sqlite")
    opened = Store(str(root), None, exclusive=False)
    opened.jobs.set_now("datacenter", "dc1")
    opened.move(URL, None)
    yield opened
    opened.close()


def test_keys_name_the_datacenters_own_authority(store: Store) -> None:
    store.add_user("zoe", admin=True)
    key, _ = store.add_node_key(None)
    assert authority_of_key(key) == hash_of(read_certificate(store.authority.certificate()).der)
    assert "dc1.example.org" in names(store.authority)


def test_the_server_shows_its_own_certificate_and_believes_its_own_users(store: Store) -> None:
    tls = store.tls(Asked("127.0.0.1"), None)
    assert tls == Tls(store.authority.server_file, store.authority.server_file, store.authority.certificate_file)
    given = Tls("cert", "key")
    assert store.tls(Asked("127.0.0.1", certificate=True), given) == Tls(
        "cert", "key", store.authority.certificate_file
    )
    assert store.tls(Asked("127.0.0.1", plain=True), None) is None


def test_a_server_that_moves_has_a_certificate_for_where_it_is(store: Store) -> None:
    store.move("https://dc2.example.org", None, ["dc2"])
    assert {"dc1.example.org", "dc2.example.org", "dc2"} <= names(store.authority)
    store.move("http://127.0.0.1:8470", None)
    assert not store.is_vouched
    assert store.tls(Asked("127.0.0.1"), None) is None


def test_the_server_renews_its_certificate_when_it_starts(store: Store) -> None:
    Path(store.authority.server_file).unlink()
    store.tls(Asked("127.0.0.1"), None)
    assert "dc1.example.org" in names(store.authority)


def test_others_are_listened_to_when_somebody_can_come_in(store: Store) -> None:
    with pytest.raises(PfsError, match="nobody has an account here"):
        store.tls(Asked("0.0.0.0"), None)
    store.accounts.invite_now(URL, admin=False, days=1)
    with pytest.raises(PfsError, match="nobody has an account here"):
        store.tls(Asked("0.0.0.0"), None)
    store.accounts.invite_now(URL, admin=True, days=1)
    assert store.tls(Asked("0.0.0.0"), None) is not None
    store.add_user("zoe", admin=True)
    assert store.tls(Asked("0.0.0.0"), None) is not None


def test_another_authority_needs_its_certificate(store: Store) -> None:
    other = OwnAuthority(store.data_root)
    other.make("dc9", NOW_NS)
    for authority in (other.certificate().decode(), ""):
        store.move(URL, authority)
        with pytest.raises(PfsError, match="give --tls-cert and --tls-key"):
            store.tls(Asked("127.0.0.1"), None)
