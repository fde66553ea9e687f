"""Records as plain values, to be stored and sent: what `dataclasses.asdict` returns, at a fraction of its price.

That copies every word of a record, in case somebody changes it later. Nobody changes these records, and a job that is
submitted or goes on is turned into JSON several times.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from pfs.path import check_name


def fields_of(record: Any) -> dict[str, Any]:
    """Return what a dataclass holds, by field, with a dictionary for each dataclass in it; tuples stay tuples."""
    return {name: _plain(getattr(record, name)) for name in record.__dataclass_fields__}


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is tuple or kind is list:
        return kind(map(_plain, value))
    if kind is dict:
        return {key: _plain(each) for key, each in value.items()}
    return fields_of(value) if hasattr(kind, "__dataclass_fields__") else value


def texts_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return files, by name, as values that JSON can hold."""
    return {name: b64encode(content).decode() for name, content in files.items()}


def files_of(texts: Any) -> dict[str, bytes]:
    """Return the files that `texts_of` made these of.

    Raises:
        ValueError, PfsError: they are nothing of the kind, or a name leads elsewhere.
    """
    return {check_name(str(name)): b64decode(text, validate=True) for name, text in texts.items()}
