import pytest

from cli import config
from cli.config import ConfigError
from cli.configfile import rewrite, use, with_fields
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


GOOD = "{username: a, token: t, endpoint: x}"
LISTED = "{name: dc1, username: a, token: t, endpoint: x}"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "this names no datacenter; write `<name>:` and below it username, token and endpoint"),
        ("# nothing yet\n\n- a", 3, "this names no datacenter; write"),
        ("dc1: [", "1, column 7", "expected the node content, but found '<stream end>'; see `paddle --help`"),
        ("dc1:\n  username: \1\n", 2, "the character '\\x01' cannot be here; take it away"),
        (f"dc1: {GOOD}\n? [dc2]\n: 5\n", 2, "this is no name; a name is one word"),
        ("# mine\n\ndc1: {username: ann}\n", 3, "dc1 has no endpoint; say where its server is, as in endpoint: http"),
        ("dc1:\n  token: t\n  endpoint: x\n", 1, "dc1 has no username; say who you are there, as in username: ann"),
        ("dc1:\n  endpoint: x\n  username:\n", 3, "dc1 has no username; say who you are there"),
        ("dc1:\n  username: a\n  endpoint: 'ftp://x'\n", 3, "dc1 has the endpoint 'ftp://x'; one looks like https://h"),
        ("dc1:\n  username: a\n  endpoint: 'http://['\n", 3, "dc1 has the endpoint 'http://['; one looks like"),
        ("dc1:\n  username: a\n  endpoint: host:port\n", 3, "dc1 has the endpoint 'https://host:port'; one looks"),
        (
            "dc1:\n  username: a\n  token: t\n\n  endpoint: x\n  colour: red\n",
            6,
            "dc1 has a field 'colour'; there are ",
        ),
        ("dc1:\n  endpoint: x\n  username: [a]\n", 3, "dc1 has no word as its username; write it behind the name"),
        (f"dc0: {GOOD}\ndc1: 5", 2, "dc1 has no fields; it needs username, token and endpoint"),
        (f"dc0: {GOOD}\n..: {GOOD}", 2, "a datacenter is a directory, and '..' cannot be a directory's name"),
        (f"dc0: {GOOD}\na/b: {GOOD}", 2, "a datacenter is a directory, and 'a/b' cannot be a directory's name"),
        ("dc1:\n  username: a\n  endpoint: x\n  usercert: c\n", 4, "dc1 has usercert alone; usercert and userkey go"),
        ("dc1:\n  username: a\n  userkey: k\n  endpoint: x\n", 3, "dc1 has userkey alone; usercert and userkey go"),
        (f"dc1: {GOOD}\ndc2: {GOOD}\n'dc1': {GOOD}\n", 3, "dc1 is said a second time, after line 1; take one of th"),
        ("dc1:\n  username: a\n  token: t\n  token: u\n", 4, "token is said a second time, after line 3; take one"),
        ("dc1: &dc1\n  <<: *dc1\n", 2, "`<<` takes in the fields of another entry, and this is none"),
        ("dc1:\n  token: *pfs\n", "2, column 10", "found undefined alias 'pfs'; `*` stands for what `&` has named"),
        ("dc1:\n  token: &pfs\n", 2, "YAML takes `&` for a sign; a token that begins with it goes in quotes"),
        ("dc1:\n  password: !four words\n", 2, "YAML takes `!` for a sign; a password that begins with it goes in"),
        ("dc1:\n  password: @four\n", "2, column 13", "found character '@' that cannot start any token; a word that"),
        ("dc1:\n\tusername: a\n", "2, column 1", "found character '\\t' that cannot start any token; indent with"),
        (f"dc1: {GOOD}\n---\n", "2, column 1", "but found another document; all datacenters stand in one; take"),
        ("\ndatacenters: {a: 1}", 2, "datacenters is a list, each with name, username, token and endpoint"),
        (f"datacenters:\n- {LISTED}\n- {GOOD}\n", 3, "datacenters is a list, each with name, username, token and"),
        ("datacenters: []", 1, "datacenters is a list, each with name, username, token and endpoint"),
        (f"datacenters:\n- {LISTED}\n- username: ann\n  name: dc2\n", 4, "dc2 has no endpoint; say where"),
        ("datacenters:\n- {username: ann, name: 'dc1', token: t}\n", 2, "dc1 has no endpoint; say where"),
        (
            f"datacenters:\n- {LISTED}\n- {LISTED}\n",
            3,
            "dc1 is said a second time, after line 2; take one of them away",
        ),
        ('{"datacenters": [\n{"name": "dc1", "username": "ann"}]}', 2, "dc1 has no endpoint; say where"),
        (
            CLIENT.replace("current-datacenter: dc2", "current-datacenter: dc9"),
            5,
            "current-datacenter is 'dc9', but there are only: dc1, dc2; write one of them",
        ),
        ("; mine\n[dc10]\nusername=a\nendpoint=x\n[dc1]\nusername=ann\n", 5, "dc1 has no endpoint; say where"),
        ("[dc1]\nusername = a\nendpoint = x\ncolour = red\n", 4, "dc1 has a field 'colour'; there are "),
        ("[dc1]\nusername = a\n[dc2]\nusername = b\n[dc1]\n", 5, "dc1 is said a second time, after line 1; take one"),
        ("[dc1]\nUserName = a\n\nusername: b\n", 4, "username is said a second time, after line 2; take one"),
        ("[dc1\n]\n", 1, "this names no datacenter; write"),
        ("[dc1]\nusername ann\n", 2, "this is neither `name = value` nor a [section]"),
    ],
)
def test_a_wrong_file_is_told_with_its_line_and_cure(text, line, says):
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "f")
    assert caught.value.message.startswith(f"f, line {line}: {says}")
    assert "\n" not in caught.value.message


def test_a_datacenter_without_a_token_is_read_and_is_refused_where_it_is_used():
    loaded = config.parse("dc1: {username: a, endpoint: x}\ndc2: {username: a, token: '', endpoint: x}\n", "f")
    with pytest.raises(ConfigError, match=r"^f: dc1 has no token; get one with: paddle login$"):
        loaded.showing(None)
    with pytest.raises(ConfigError, match=r"^f: dc2 has no token; get one with: paddle login --dc dc2$"):
        loaded.showing("dc2")
    assert (loaded.named("dc2").name, loaded.named("dc2").token) == ("dc2", "")


WORDS = ["0123456", "123456", "1e3", "0x1f", "1_000", "12:30:45", "2026-01-01", "yes", "No", "on", "true", "null", "~"]
FORMS = {
    "design": "dc1:\n  username: {0}\n  password: {0}\n  token: {0}\n  endpoint: x\n",
    "client": "datacenters:\n- {{name: dc1, username: {0}, password: {0}, token: {0}, endpoint: x}}\n",
    "ini": "[dc1]\nusername = {0}\npassword = {0}\ntoken: {0}\nendpoint = x\n",
    "json": '{{"datacenters": [{{"name": "dc1", "username": {0}, "password": {0}, "token": {0}, "endpoint": "x"}}]}}',
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("word", WORDS)
def test_words_are_taken_as_they_are_written(word, form):
    found = config.parse(FORMS[form].format(word), "f").datacenter
    assert (found.username, found.password, found.token) == (word, word, word)
    if form != "ini":
        assert config.parse(FORMS[form].format(f'"{word}"'), "f").datacenter == found


def test_a_datacenter_may_have_a_name_of_digits():
    entry = "username: a, token: t, endpoint: x"
    listed = f"datacenters: [{{name: 1, {entry}}}, {{name: 007, {entry}}}]\ncurrent-datacenter: 007\n"
    for text in (listed, f"1: {{{entry}}}\n007: {{{entry}, active: true}}\n"):
        loaded = config.parse(text, "f")
        assert (list(loaded.datacenters), loaded.current) == (["1", "007"], "007")


def test_where_there_is_a_choice_null_is_none_of_it():
    text = f"datacenters:\n- {LISTED[:-1]}, ca: null, usercert: ~, userkey: }}\ncurrent-datacenter: null\n"
    loaded = config.parse(text, "f")
    assert (loaded.current, loaded.datacenter.ca, loaded.datacenter.own) == ("dc1", None, None)


def test_entries_may_share_what_they_have_in_common():
    text = "dc1: &common\n  username: ann\n  token: a\n  endpoint: x\ndc2:\n  token: b\n  <<: *common\n"
    loaded = config.parse(f"{text}dc3:\n  <<: [*common]\n", "f")
    assert [each.token for each in loaded.datacenters.values()] == ["a", "b", "a"]
    assert loaded.datacenters["dc2"].username == "ann"


def test_a_name_for_a_word_may_be_given_twice():
    loaded = config.parse("dc1: {username: &a ann, token: &a t, password: *a, endpoint: x}\n", "f")
    assert (loaded.datacenter.username, loaded.datacenter.password) == ("ann", "t")


SHARED = """\
dc1: &one
  username: ann
  token: a
  endpoint: x
dc2:
  <<: *one
  endpoint: y
dc3: *one
"""


@pytest.mark.parametrize(
    ("name", "tokens"), [("dc1", ["", "", ""]), ("dc2", ["a", "", "a"])], ids=["for all that take it in", "for itself"]
)
def test_a_token_that_entries_share_can_be_taken_away(monkeypatch, tmp_path, name, tokens):
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").write_text(SHARED)
    rewrite(name, {"token": None, "password": None})
    loaded = config.load()
    assert [each.token for each in loaded.datacenters.values()] == tokens
    assert [each.username for each in loaded.datacenters.values()] == ["ann"] * 3
    assert "password" not in (tmp_path / "config").read_text()


def test_each_of_the_entries_that_are_the_same_can_be_the_current_one(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLE_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").write_text(SHARED)
    for name in ("dc3", "dc2", "dc1", "dc3"):
        use(name)
        assert config.load().current == name
    assert {name: each.endpoint for name, each in config.load().datacenters.items()} == {
        "dc1": "https://x",
        "dc2": "https://y",
        "dc3": "https://x",
    }


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
