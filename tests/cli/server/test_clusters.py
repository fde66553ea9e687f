"""What `jobd cluster` and `jobd node-key` do, and `jobd init` for a server with an authority of its own."""

import hashlib
import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trustme
from click.testing import CliRunner, Result

from cli.jobd import jobd
from cli.server.datacenter import Store, make_data_root
from jobd.store.tables import ClusterRow
from pfs.accounts.store import Accounts, KeyKind
from pfs.errors import PfsError
from pfs.keys import authority_of_key, is_join_token, url_of_key
from tests.jobd.conftest import migrated_database

CLUSTERS = {"cl1": ("", "GradientNode Cluster", True), "cl2": ("", "Attic", False), "cl3": ("ann", "Attic", True)}
SHOWN = "cl2: Attic\ncl1: GradientNode Cluster, the default\ncl3: Attic, the default, of ann\n"

Jobd = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A data root with the administrators root and eve, with ann, and three clusters."""
    made = tmp_path / "data"
    make_data_root(str(made))
    shutil.copy(migrated_database(), made / "server/pfs.sqlite")
    opened = Store(str(made), None, exclusive=False)
    opened.jobs.set_now("endpoint", "https://dc1:8470")
    for name in ("root", "ann", "eve"):
        opened.accounts.add_user_now(name, admin=name != "ann")

    def clusters(session) -> None:
        for id_, (owner, name, is_default) in CLUSTERS.items():
            session.add(ClusterRow(id=id_, owner=owner, name=name, is_default=is_default))

    opened.database.write_now(clusters)
    yield opened
    opened.close()


@pytest.fixture
def run_jobd(store: Store) -> Jobd:
    def call(command: str, *words: str) -> Result:
        return CliRunner().invoke(jobd, [command, "--data-root", store.data_root, *words])

    return call


def test_clusters_are_shown_renamed_and_made_the_default(run_jobd: Jobd) -> None:
    assert run_jobd("cluster").output == SHOWN
    assert run_jobd("cluster", "Attic", "--rename", "The lab", "--default").output == (
        "cl1: GradientNode Cluster\ncl2: The lab, the default\ncl3: Attic, the default, of ann\n"
    )
    assert "cl3: Mine, the default, of ann\n" in run_jobd("cluster", "--user", "ann", "cl3", "--rename", "Mine").output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Attic",), "a CLUSTER with --rename NAME or --default"),
        (("--default",), "a CLUSTER with --rename NAME or --default"),
        (("cellar", "--default"), "there is no cluster 'cellar'; there are: 'Attic', 'GradientNode Cluster'"),
        (("cl3", "--default"), "there is no cluster 'cl3'"),
        (("--user", "bob", "Attic", "--default"), "there is no cluster 'Attic'; there are: none"),
        (("Attic", "--rename", "GradientNode Cluster"), "the cluster cl1 has the name 'GradientNode Cluster' already"),
        (("Attic", "--rename", " "), "' ' cannot be a cluster's name"),
    ],
)
def test_what_cannot_be_done_with_a_cluster_is_said_and_changes_nothing(
    run_jobd: Jobd, words: tuple[str, ...], said: str
) -> None:
    result = run_jobd("cluster", *words)
    assert result.exit_code != 0
    assert said in (str(result.exception) if isinstance(result.exception, PfsError) else result.output)
    assert run_jobd("cluster").output == SHOWN


def test_keys_of_nodes_are_for_the_datacenter_or_for_one_user(run_jobd: Jobd, store: Store) -> None:
    for words, user, said in (
        ((), "root", "the jobs of everybody"),
        (("eve",), "eve", "the jobs of everybody"),
        (("ann",), "ann", "jobs of ann only"),
    ):
        result = run_jobd("node-key", *words)
        assert result.stderr == f"Nodes with this key run {said}.\n"
        key = result.stdout.strip()
        assert (url_of_key(key), authority_of_key(key)) == ("https://dc1:8470", "")
        identity = trio.run(store.accounts.identify, key)
        assert (identity.kind, identity.subject.user) == (KeyKind.NODE, user)
    assert "no user 'bob'" in str(run_jobd("node-key", "bob").exception)


def test_a_join_token_says_where_the_server_is_and_for_whom_the_node_will_work(run_jobd: Jobd, store: Store) -> None:
    for words, said, user in (
        ((), "within 60 minutes, and runs the jobs of everybody", "root"),
        (("ann", "--minutes", "5"), "within 5 minutes, and runs jobs of ann only", "ann"),
    ):
        result = run_jobd("join-token", *words)
        assert result.stderr == f"One machine joins with this {said}.\n"
        token = result.stdout.strip()
        assert (url_of_key(token), is_join_token(token)) == ("https://dc1:8470", True)
        identity = trio.run(store.accounts.identify, token)
        assert (identity.kind, identity.subject.user) == (KeyKind.JOIN, user)
    assert "no user 'bob'" in str(run_jobd("join-token", "bob").exception)


@pytest.mark.parametrize("command", ["node-key", "join-token"])
def test_without_an_administrator_there_are_no_nodes_of_the_datacenter(
    run_jobd: Jobd, store: Store, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(Accounts, "admins_now", lambda accounts: [])
    refused = run_jobd(command)
    assert isinstance(refused.exception, PfsError)
    assert "there is none yet" in refused.exception.message


def test_keys_name_the_authority_that_the_datacenter_was_made_with(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(b"Our authority:\n" + pem)
    options = {"--data-root": "data", "--admin": "root", "--endpoint": "https://dc1:8470", "--tls-ca": "ca.pem"}
    words = [word for name, value in options.items() for word in (name, value.replace("data", str(tmp_path / "data")))]
    words[words.index("ca.pem")] = str(tmp_path / "ca.pem")
    result = CliRunner().invoke(jobd, ["init", *words, "--node-key", str(tmp_path / "key")])
    assert result.exit_code == 0, result.output
    key = (tmp_path / "key").read_text().strip()
    expected = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
    assert (url_of_key(key), authority_of_key(key)) == ("https://dc1:8470", expected)
    assert "endpoint: https://dc1:8470\n" in result.output


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", "\xff"])
def test_a_file_without_a_certificate_makes_no_datacenter(tmp_path: Path, text: str) -> None:
    (tmp_path / "ca.pem").write_bytes(text.encode("latin-1"))
    words = ["init", "--data-root", str(tmp_path / "data"), "--admin", "root", "--tls-ca", str(tmp_path / "ca.pem")]
    result = CliRunner().invoke(jobd, words)
    assert result.exit_code == 2
    assert "there is no certificate (PEM) in it" in result.output
    assert not (tmp_path / "data").exists()
