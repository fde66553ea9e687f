"""Changes of `~/.paddle/config`, in whatever form it is: only what is to change does, and comments stay.

YAML is read and written with its comments, and with its words as they are written (`cli.configform`). An ini file is
changed line by line.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cli.config import config_path, load
from cli.configform import CURRENT, LIST, is_ini


def rewrite(name: str, fields: Mapping[str, str | None]) -> None:
    """Change fields of a datacenter, None is to take one away; one that is not there is added."""
    text = _text()
    if is_ini(text):
        _write(with_fields(text, name, fields))
        return
    value = _value(text)
    if isinstance(value.get(LIST), list):
        entry = next((each for each in value[LIST] if each.get("name") == name), None)
        if entry is None:
            entry = {"name": name}
            value[LIST].append(entry)
    else:
        entry = value.setdefault(name, {})
    for field, told in fields.items():
        if told is None and not _is_shared(entry):
            entry.pop(field, None)
        elif told is not None or field in entry:
            entry[field] = told or ""
    _dump(value)


def use(name: str) -> None:
    """Make a datacenter the current one.

    Raises:
        ConfigError: there is none of that name.
    """
    loaded = load()
    loaded.named(name)
    text = _text()
    if is_ini(text):
        for each in loaded.datacenters:
            text = with_fields(text, each, {"active": "true" if each == name else None})
        _write(text)
        return
    value = _value(text)
    if isinstance(value.get(LIST), list):
        value[CURRENT] = name
    else:
        for each, entry in _own(value).items():
            if each == name and "active" not in entry:
                entry.insert(0, "active", "true")  # at its end it would come behind comments on what follows
            elif "active" in entry:
                entry["active"] = "true" if each == name else "false"
    _dump(value)


def with_fields(text: str, name: str, fields: Mapping[str, str | None]) -> str:
    """Return an ini file with other fields in a section, None is to take one away."""
    lines = text.splitlines()
    heading = re.compile(rf"\s*\[{re.escape(name)}\]")
    if not any(map(heading.match, lines)):
        lines += ["", f"[{name}]"]
    first = next(at for at, line in enumerate(lines, 1) if heading.match(line))
    end = next((at for at in range(first, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    before, section, after = lines[:first], lines[first:end], lines[end:]
    for field, told in fields.items():
        at = next((at for at, line in enumerate(section) if re.match(rf"\s*{field}\s*[=:]", line, re.IGNORECASE)), None)
        if at is not None:
            section[at : at + 1] = [] if told is None else [f"{field} = {told}"]
        elif told is not None:
            section.insert(0, f"{field} = {told}")
    return "\n".join([*before, *section, *after]) + "\n"


def _text() -> str:
    with suppress(FileNotFoundError), open(config_path(), encoding="utf-8") as file:
        return file.read()
    return ""


def _yaml() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.resolver import VersionedResolver

    class AsWritten(VersionedResolver):
        """Takes every word for a text, and writes it as it was."""

        def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
            is_word = isinstance(value, str) and value != "<<"
            return self.DEFAULT_SCALAR_TAG if is_word else super().resolve(kind, value, implicit)

    yaml = YAML()
    yaml.Resolver = AsWritten
    yaml.composer.warn_double_anchors = False  # as `cli.configform` reads it
    yaml.width = 4096  # a token stays in its line
    yaml.preserve_quotes = True
    return yaml


def _value(text: str) -> Any:
    value = _yaml().load(text)
    return value if isinstance(value, dict) else {}


def _is_shared(entry: Any) -> bool:
    """Tell whether other entries may have their fields from this one, or it from them: nothing can be taken away."""
    return bool(entry.merge) or entry.anchor.value is not None


def _own(value: Any) -> Any:
    """Give each datacenter an entry of its own, where `*` says that it is another one's."""
    seen: list[Any] = []
    for name, entry in value.items():
        if any(entry is other for other in seen):
            value[name] = type(entry)(entry)
        seen.append(entry)
    return value


def _dump(value: Any) -> None:
    from io import StringIO

    out = StringIO()
    _yaml().dump(value, out)
    _write(out.getvalue())


def _write(text: str) -> None:
    write_private(os.path.realpath(config_path()), text)


def write_private(path: str, text: str) -> None:
    """Replace a file by one that only its owner may read, all at once."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o700, exist_ok=True)
    fd, part = tempfile.mkstemp(dir=folder, prefix=".config-")  # of mode 0600
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
