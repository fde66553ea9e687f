"""Small values that are made very often: frozen dataclasses at the price of ordinary ones.

Attributes and entries are made for every file of a listing, at the server and again at the client, and how a job stands
is made anew by every event. A frozen dataclass assigns its own fields by a detour around the assignment that it
forbids, which is more than ten times as dear as all else of making one. The type checker forbids it as well, without
any price.
"""

from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


def light(frozen: type[T]) -> type[T]:
    """Let a frozen dataclass with slots be made quickly; that it is not changed is then seen to by the type checker."""
    made: Any = frozen
    body: dict[str, Any] = {"__annotations__": {field.name: field.type for field in fields(made)}}
    body |= {field.name: field.default for field in fields(made) if field.default is not MISSING}
    ordinary: Any = dataclass(type(made.__name__, (), body))
    made.__init__ = ordinary.__init__
    del made.__setattr__, made.__delattr__
    return frozen
