r"""The options of a mount, as they are written behind `-o` and in /etc/fstab.

    ro,allow_other,cache_size=20Gi        a comma separates them; `\,` is a comma and `\\` a backslash
    cache-size                            as good as cache_size: people know either from elsewhere
    _netdev,nofail,x-systemd.automount    words for mount(8) and systemd: nothing to do here

What is written later counts. `OPTIONS` is the whole list: messages, help and README have it from there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fuseclient.kernel.identity import Ids
from jobd.spec.units import format_size, parse_size
from pfs.errors import Kind, PfsError
from pfs.path import split

CACHE_BYTES = 1 << 30
LOG_LEVELS = ("debug", "info", "warning", "error")

# what mount(8), systemd and libmount mean for themselves, or what is so anyhow
_FOR_MOUNT = ("defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev")
_TIMES = ("atime", "diratime", "relatime", "strictatime", "lazytime")
_ANYHOW = ("async", "dev", "nodev", "default_permissions", *_TIMES, *(f"no{word}" for word in _TIMES))
FOREIGN = frozenset((*_FOR_MOUNT, *_ANYHOW))
_ELSEWHERE = {
    "remount": "a mount cannot be changed; unmount it, and mount it anew",
    "token": "others could read a token here; write it into a file, and name that: config=FILE",
    "password": "there is a token instead; write it into a file, and name that: config=FILE",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How to mount.

    Attributes:
        allow_other: other users of the machine may use the mount, as this user.
        cache_dir: where blocks of files are kept; by default in the user's cache directory.
        cache_bytes: room that they may take there; 0 keeps none.
        shortcut: read files of a server on this machine directly.
        streams: who reads a log of a job that runs waits for more.
        write_behind: `close` returns before the server has what was written.
        ids: how the mount treats owners.
        uid, gid: as whose everything is shown, where that is not who mounts.
        flags: what the kernel sees to: any of `ro`, `noexec` and `suid`.
        subdir: the folder that the mount shows, as a path from its top; None shows all datacenters.
        config: the file with the datacenters; by default the user's.
        log_file: where messages go; by default the terminal, or in the background a file in the state directory.
        log_level: one of `LOG_LEVELS`.
    """

    allow_other: bool = False
    cache_dir: str | None = None
    cache_bytes: int = CACHE_BYTES
    shortcut: bool = True
    streams: bool = True
    write_behind: bool = False
    ids: Ids = Ids.SQUASHED
    uid: int | None = None
    gid: int | None = None
    flags: frozenset[str] = frozenset()
    subdir: str | None = None
    config: str | None = None
    log_file: str | None = None
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        name: as it is written.
        value: what stands behind `=`; empty where nothing does.
        help: what it does.
        put: returns options with this one in them, given its value.
        opposite: the word that takes it back, which is the default; empty where there is none.
    """

    name: str
    value: str
    help: str
    put: Callable[[Options, str], Options]
    opposite: str = ""

    def __str__(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


def parse_cache_size(text: str) -> int:
    """Return bytes; a bare 0 is a size, too.

    Raises:
        ValueError: the text says what to write.
    """
    return 0 if text == "0" else parse_size(text)


def _flag(name: str, help_: str, opposite: str) -> Option:
    text = f"{help_}; `{opposite}` is the default"
    return Option(name, "", text, lambda o, _: replace(o, flags=o.flags | {name}), opposite)


def _ids(options: Options, value: str) -> Options:
    if value not in list(Ids):
        raise ValueError(f"there are {', '.join(Ids)}")
    return replace(options, ids=Ids(value))


def _number(text: str) -> int:
    if not text.isdecimal() or not text.isascii():
        raise ValueError("this is a number, as `id -u` prints it")
    return int(text)


def _subdir(text: str) -> str:
    path = text.strip("/")
    try:
        split(path)
    except PfsError as error:
        raise ValueError(error.message) from None
    if not path:
        raise ValueError("this is a path such as dc1/home/ann")
    return path


def _log_level(options: Options, value: str) -> Options:
    if value not in LOG_LEVELS:
        raise ValueError(f"there are {', '.join(LOG_LEVELS)}")
    return replace(options, log_level=value)


OPTIONS = (
    _flag("ro", "nothing can be changed: `EROFS`", "rw"),
    Option("allow_other", "", "other users of this machine are let in, too", lambda o, _: replace(o, allow_other=True)),
    Option(
        "ids",
        "|".join(Ids),
        "whose files are: `squashed`, all yours; `job`, the same, and `chown` does nothing; "
        "`numeric`, the server's numbers and modes, for administrators, with `allow_other`",
        _ids,
    ),
    Option(
        "uid",
        "NUMBER",
        "all files are shown as this user's, not as those of whoever mounts; `allow_other` lets that user in",
        lambda o, value: replace(o, uid=_number(value)),
    ),
    Option("gid", "NUMBER", "all files are shown as this group's", lambda o, value: replace(o, gid=_number(value))),
    Option(
        "write_behind",
        "",
        "`close` returns before the server has what was written; a journal beside the cache keeps it",
        lambda o, _: replace(o, write_behind=True),
    ),
    Option(
        "cache_dir",
        "FOLDER",
        "where blocks of files are kept; `~/.cache/pfs`",
        lambda o, value: replace(o, cache_dir=value),
    ),
    Option(
        "cache_size",
        "SIZE",
        f"room that they may take, `{format_size(CACHE_BYTES)}`; `0` keeps none",
        lambda o, value: replace(o, cache_bytes=parse_cache_size(value)),
    ),
    Option(
        "noshortcut",
        "",
        "the network also where the server is on this machine",
        lambda o, _: replace(o, shortcut=False),
    ),
    Option(
        "nostream",
        "",
        "`log` and `wait` of a job that runs end with what there is so far, for backups and indexers",
        lambda o, _: replace(o, streams=False),
    ),
    Option(
        "subdir",
        "DC/PATH",
        "the mount is that folder, such as `dc1/home/ann`, not a directory with all datacenters",
        lambda o, value: replace(o, subdir=_subdir(value)),
    ),
    Option(
        "config", "FILE", "the datacenters, with tokens; `~/.paddle/config`", lambda o, value: replace(o, config=value)
    ),
    Option("log_file", "FILE", "where messages go; below `~/.local/state/pfs`", lambda o, v: replace(o, log_file=v)),
    Option("log_level", "|".join(LOG_LEVELS), "which messages; `info`", _log_level),
    _flag("noexec", "no program is run from there", "exec"),
    _flag("suid", "with `ids=numeric`: programs run with their owner's rights; only root mounts so", "nosuid"),
)
_BY_NAME = {option.name: option for option in OPTIONS}
_OPPOSITES = {option.opposite: option.name for option in OPTIONS if option.opposite}


def parse(texts: Sequence[str], begin: Options = Options(), *, sloppy: bool = False) -> Options:
    """Return options.

    Args:
        texts: each a list with commas, as behind one `-o`.
        begin: what holds where nothing is said.
        sloppy: pass over what is not known.

    Raises:
        PfsError: INVALID for an option that there is not, or that has not the value it needs.
    """
    options = begin
    for word in (word for text in texts for word in _words(text)):
        name, equals, value = word.partition("=")
        option = _BY_NAME.get(name.replace("-", "_"))
        if option is not None:
            options = _put(options, option, value, given=bool(equals))
        elif word in _OPPOSITES:
            options = replace(options, flags=options.flags - {_OPPOSITES[word]})
        elif not sloppy and name not in FOREIGN and not name.startswith(("x-", "X-", "comment")):
            raise PfsError(Kind.INVALID, _unknown(name))
    return replace(options, allow_other=options.allow_other or options.ids is Ids.NUMERIC)


def _put(options: Options, option: Option, value: str, *, given: bool) -> Options:
    if bool(value) != bool(option.value) or (given and not option.value):
        what = f"needs a value: {option}" if option.value else "takes no value"
        raise PfsError(Kind.INVALID, f"the option {option.name} {what}")
    try:
        return option.put(options, value)
    except ValueError as error:
        raise PfsError(Kind.INVALID, f"the option {option.name}={value}: {error}") from None


def _unknown(name: str) -> str:
    if name in _ELSEWHERE:
        return f"the option {name}: {_ELSEWHERE[name]}"
    there_are = ", ".join([*map(str, OPTIONS), *_OPPOSITES])
    return f"there is no option {name!r}; there are {there_are}, and mount(8)'s own such as _netdev and noauto"


def _words(text: str) -> Iterator[str]:
    word, letters = "", iter(text)
    for letter in letters:
        if letter == "\\":
            word += next(letters, "\\")
        elif letter == ",":
            yield from [word] if word else []
            word = ""
        else:
            word += letter
    yield from [word] if word else []


def help_text() -> str:
    """Return the list of all options, for people."""
    names = [", ".join(word for word in (str(option), option.opposite) if word) for option in OPTIONS]
    width = max(len(name) for name in names if "|" not in name)
    rows = zip(names, OPTIONS, strict=True)
    return "\n".join(f"{name.ljust(width)}  {option.help.replace('`', '')}" for name, option in rows)


def shown(options: Options) -> str:
    """Return what differs from the default, as behind `-o`."""
    words = sorted(options.flags)
    words += [name for name in ("allow_other", "write_behind") if getattr(options, name)]
    words += [] if options.shortcut else ["noshortcut"]
    words += [] if options.streams else ["nostream"]
    words += [] if options.ids is Ids.SQUASHED else [f"ids={options.ids}"]
    words += [f"{name}={value}" for name in ("uid", "gid") if (value := getattr(options, name)) is not None]
    words += [] if options.subdir is None else [f"subdir={options.subdir}"]
    words += [] if options.cache_dir is None else [f"cache_dir={options.cache_dir}"]
    if options.cache_bytes != CACHE_BYTES:
        words.append(f"cache_size={format_size(options.cache_bytes) if options.cache_bytes else 0}")
    return ",".join(words)
