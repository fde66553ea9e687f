"""Variables that are lists with colons between, such as `PYTHONPATH`, of which an image may say something as well.

What a process is told of such a variable stands beside what the image says, not in its place. Pure: the server knows
which variables these are, and the node what an image says.
"""

from collections.abc import Mapping
from enum import StrEnum


class Side(StrEnum):
    """Where a value stands, seen from what others say of its variable."""

    BEFORE = "before"
    BEHIND = "behind"

    def beside(self, own: str, said: str) -> str:
        """Return both as one list; what is empty leaves no place in it, which would mean the working directory."""
        return ":".join(filter(None, (own, said) if self is Side.BEFORE else (said, own)))


def beside_image(env: Mapping[str, str], extended: Mapping[str, Side], image: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process, those that are `extended` beside what its image says of them."""
    return dict(env) | {
        name: side.beside(env[name], image.get(name, "")) for name, side in extended.items() if name in env
    }
