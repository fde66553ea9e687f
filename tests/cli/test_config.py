import pytest

from cli import config
from cli.config import ConfigError
from cli.configfile import with_fields
from pfs.certificates import issue_user, make_authority
from pfs.errors import PfsError
from pfs.keys import Pair

SEED = """
dc1:
  username: ann
  token: pfs1.a.b
  endpoint: dc1.example.org:8470
dc2: {username: ann, token: pfs1.c.d, endpoint: "http://127.0.0.1:8470/", active: true}
"""
CLIENT = """
datacenters:
- {name: dc1, username: ann, token: pfs1.a.b, endpoint: "https://dc1.example.org"}
- {name: dc2, username: ann, token: pfs1.c.d, endpoint: "http://127.0.0.1:8470"}
current-datacenter: dc2
"""


def test_the_form_of_the_design_is_read_and_an_active_one_is_current():
    loaded = config.parse(SEED, "f")
    assert list(loaded.datacenters) == ["dc1", "dc2"]
    assert loaded.datacenters["dc1"].endpoint == "https://dc1.example.org:8470"
    assert loaded.datacenter.endpoint == "http://127.0.0.1:8470"


def test_the_form_of_the_client_is_read():
    loaded = config.parse(CLIENT, "f")
    assert list(loaded.datacenters) == ["dc1", "dc2"]
    assert loaded.datacenter.token == "pfs1.c.d"


def test_without_a_word_the_first_is_current():
    assert config.parse(SEED.replace(", active: true", ""), "f").current == "dc1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no datacenter"),
        ("- a", "names no datacenter"),
        ("dc1: [", "f, line 1, column"),
        ("dc1: {username: a, endpoint: 'http://x'}", "dc1 has no token"),
        ("dc1: {username: a, token: t}", "dc1 has no endpoint"),
        ("dc1: {username: a, token: t, endpoint: 'ftp://x'}", "one looks like https://host:8470"),
        ("dc1: {username: a, token: t, endpoint: x, port: 5}", "dc1 has a field 'port'"),
        ("dc1: 5", "dc1 has no fields"),
        ("..: {username: a, token: t, endpoint: x}", "'..' cannot be a directory's name"),
        ("a/b: {username: a, token: t, endpoint: x}", "'a/b' cannot be a directory's name"),
        ("dc1: {username: a, endpoint: x, usercert: c}", "has usercert alone"),
        ("dc1: {username: a, endpoint: x, userkey: c}", "has userkey alone"),
        ("datacenters: {a: 1}", "datacenters is a list"),
        (CLIENT.replace("current-datacenter: dc2", "current-datacenter: dc9"), "there are only: dc1, dc2"),
    ],
)
def test_a_wrong_file_is_told_with_its_place_and_cure(text, says):
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# mine\n\ndc1: {username: ann}\n", 3),
        ("dc0: {username: a, token: t, endpoint: x}\n'dc1':\n  username: ann\n", 2),
        ("datacenters:\n- {name: dc10, username: a, token: t, endpoint: x}\n- username: ann\n  name: dc1\n", 4),
        ("datacenters:\n- {username: ann, name: 'dc1', token: t}\n", 2),
        ('{"datacenters": [\n{"name": "dc1", "username": "ann"}]}', 2),
        ("; mine\n[dc10]\nusername=a\ntoken=t\nendpoint=x\n[dc1]\nusername=ann\n", 6),
    ],
)
def test_a_datacenter_that_lacks_something_is_told_with_its_line(text, line):
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f")
    assert caught.value.message.startswith(f"f, line {line}: dc1 has no ")


def test_in_the_form_of_the_client_one_may_be_said_to_be_active():
    active = CLIENT.replace("current-datacenter: dc2", "").replace('8470"}', '8470", active: true}')
    assert config.parse(active, "f").current == "dc2"
    assert config.parse(active.replace("active: true", "active: false"), "f").current == "dc1"


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "config").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is no text in UTF-8"):
        config.load(str(tmp_path / "config"))


def test_the_environment_names_the_file_and_a_missing_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="there is no configuration"):
        config.load()
    (tmp_path / "none").write_text(SEED)
    assert config.load().current == "dc2"


PADDLECLOUD = """
dc1:
  username: ann
  usercert: ~/ann.pem
  userkey: ~/ann-key.pem
  endpoint: dc1.example.org:8470
"""


def test_a_certificate_stands_for_a_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = config.parse(PADDLECLOUD, "f").datacenter
    assert (loaded.token, loaded.own) == ("", Pair(f"{tmp_path}/ann.pem", f"{tmp_path}/ann-key.pem"))
    assert config.parse(f"{PADDLECLOUD}  token: t\n  ca: ~/ca.pem\n", "f").datacenter.ca == f"{tmp_path}/ca.pem"
    assert config.parse(SEED, "f").datacenter.own is None


def test_a_certificate_that_has_ended_is_told_before_it_is_shown(tmp_path):
    authority = make_authority("dc1", 1_700_000_000 * 10**9)
    own = Pair(str(tmp_path / "ann.pem"), "key")
    assert config.lasting(None) is None
    for days, ended in ((10_000, False), (7, True)):
        (tmp_path / "ann.pem").write_bytes(issue_user(authority, "ann", 1_700_000_000 * 10**9, days).certificate)
        if not ended:
            assert config.lasting(own) == own
    with pytest.raises(PfsError, match=r"ann\.pem ended on 2023-11-21; ask"):
        config.lasting(own)
    for text in ("", "nonsense"):
        (tmp_path / "ann.pem").write_text(text)
        with pytest.raises(PfsError, match=r"ann\.pem: there is no certificate"):
            config.lasting(own)
    with pytest.raises(PfsError, match="cannot be read: No such file"):
        config.lasting(Pair("nowhere", "key"))


INI = """
; PaddlePaddle's own text has it like this
[datacenter_1]
username=ann
usercert=~/ann.pem
userkey=~/ann-key.pem
endpoint=dc1.example.org
[datacenter_2]
username: ann
token: pfs1.a.%b
endpoint: http://127.0.0.1:8470/
active: yes
"""


def test_sections_of_an_ini_file_are_datacenters(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = config.parse(INI, "f")
    assert loaded.datacenters["datacenter_1"].own == Pair(f"{tmp_path}/ann.pem", f"{tmp_path}/ann-key.pem")
    assert loaded.datacenters["datacenter_1"].endpoint == "https://dc1.example.org"
    assert (loaded.datacenter.name, loaded.datacenter.token) == ("datacenter_2", "pfs1.a.%b")
    assert config.parse(INI.replace("yes", "no"), "f").current == "datacenter_1"


def test_fields_of_an_ini_file_are_changed_and_all_else_stays():
    changed = with_fields(INI, "datacenter_2", {"token": "pfs1.c.d", "active": None, "ca": "/ca.pem"})
    assert changed == INI.replace("token: pfs1.a.%b", "token = pfs1.c.d").replace("active: yes\n", "").replace(
        "username: ann\n", "ca = /ca.pem\nusername: ann\n"
    )
    added = with_fields(INI, "dc3", {"username": "bob", "token": "t", "endpoint": "x"})
    assert added.startswith(INI)
    assert config.parse(added, "f").datacenters["dc3"].username == "bob"
