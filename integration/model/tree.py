"""What a directory tree looks like to a program, in a form that can be compared with another one's."""

import os
import stat
from pathlib import Path

from integration.model.place import told

Tree = dict[str, dict[str, object]]
SHOWN_BYTES = 16


def tree(root: Path, *, contents: bool) -> Tree:
    """Describe all that is below a directory: names, what stat tells, where links lead, attributes, and bytes.

    Args:
        contents: extended attributes and the bytes of files are looked at, too.
    """
    found: Tree = {}
    first_names: dict[int, str] = {}
    _describe(str(root), "", found, first_names, contents)
    return found


def differences(expected: Tree, found: Tree) -> list[str]:
    """Return a line for everything in which two trees differ."""
    lines = []
    for path in sorted({*expected, *found}):
        if path not in found:
            lines.append(f"{path!r} is missing")
        elif path not in expected:
            lines.append(f"{path!r} should not be there")
        else:
            one, other = expected[path], found[path]
            lines += [
                f"{path!r}: {key} is {_shown(one.get(key), other.get(key))}"
                for key in sorted({*one, *other})
                if one.get(key) != other.get(key)
            ]
    return lines


def _describe(root: str, path: str, found: Tree, first_names: dict[int, str], contents: bool) -> None:
    place = f"{root}/{path}" if path else root
    info = os.lstat(place)
    mode, nlink, size, mtime = told(info)
    entry: dict[str, object] = {"mode": mode, "nlink": nlink, "size": size, "mtime": mtime}
    entry["same as"] = first_names.setdefault(info.st_ino, path)
    found[path] = entry
    if stat.S_ISLNK(info.st_mode):
        entry["target"] = os.readlink(place)
    elif contents:
        entry["xattrs"] = {name: os.getxattr(place, name) for name in os.listxattr(place)}
    if stat.S_ISREG(info.st_mode) and contents:
        with open(place, "rb", buffering=0) as file:
            entry["bytes"] = file.readall()
    if stat.S_ISDIR(info.st_mode):
        for name in sorted(os.listdir(place)):
            _describe(root, f"{path}/{name}" if path else name, found, first_names, contents)


def _shown(expected: object, found: object) -> str:
    if not isinstance(expected, bytes) or not isinstance(found, bytes):
        return f"{found!r} instead of {expected!r}"
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(expected), len(found)))
    different = sum(one != other for one, other in zip(expected, found, strict=False))
    window = slice(at, at + SHOWN_BYTES)
    return (
        f"{len(found)} bytes instead of {len(expected)}, {different} differ, the first at {at}:"
        f" {found[window].hex(' ')} instead of {expected[window].hex(' ')}"
    )
