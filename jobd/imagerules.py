"""Which images may run on a node: patterns of names and registries, as its owner lays them down.

The node judges by them, and tells them to the server, which sends it no job that it would refuse. An image is judged by
its full name (`jobd.imagename`). Pure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from jobd.imagename import Image, image_of

SHOWN_MAX = 5

# what a node tells of them among its attributes
_IMAGES, _REGISTRIES = "allowedImages", "allowedRegistries"


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What may run; None is no limit, and where one of the two is a limit, it may be met by the other.

    Attributes:
        images: patterns of names, `*` for any text. One without tag and digest allows all of them.
        registries: patterns of registries from which every image may come.
    """

    images: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None

    @property
    def are_any(self) -> bool:
        """Whether anything is forbidden by them."""
        return self.images is not None or self.registries is not None

    @property
    def allowed(self) -> str:
        """What they allow, for people."""
        names = [*(f"{each}/*" for each in self.registries or ()), *map(str, self._patterns())]
        return ", ".join(names[:SHOWN_MAX]) + (", …" if len(names) > SHOWN_MAX else "") or "none"

    def allow(self, name: str) -> bool:
        """Tell whether an image may run."""
        if not self.are_any:
            return True
        image = image_of(name)
        from_anywhere = any(_matches(each, image.registry) for each in self.registries or ())
        return from_anywhere or any(_covers(each, image) for each in self._patterns())

    def know(self, registry: str) -> bool:
        """Tell whether any image of a registry may run."""
        known = [*(self.registries or ()), *(each.registry for each in self._patterns())]
        return any(_matches(each, registry) for each in known)

    def _patterns(self) -> list[Image]:
        return [image_of(text, tag="") for text in self.images or ()]


def told(rules: ImageRules) -> dict[str, str]:
    """Return what a node tells of its rules: the patterns, which hold no white space, with blanks between them."""
    named = {_IMAGES: rules.images, _REGISTRIES: rules.registries}
    return {name: " ".join(patterns) for name, patterns in named.items() if patterns is not None}


def heard(attrs: Mapping[str, object]) -> ImageRules:
    """Return the rules of a node that told of them among its attributes."""
    images, registries = (_patterns_of(attrs.get(name)) for name in (_IMAGES, _REGISTRIES))
    return ImageRules(images, registries)


def _patterns_of(value: object) -> tuple[str, ...] | None:
    return None if value is None else tuple(str(value).split())


def _covers(pattern: Image, image: Image) -> bool:
    """Tell whether a pattern allows an image; `*` in its registry stands for a part of that only."""
    if not _matches(pattern.registry, image.registry) or not _matches(pattern.path, image.path):
        return False
    if pattern.digest:
        return pattern.digest == image.digest
    # whoever allowed a tag allowed what its registry says that it is, and not any digest
    return not pattern.tag or (not image.digest and _matches(pattern.tag, image.tag))


def _matches(pattern: str, text: str) -> bool:
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    # only `*` means more than itself
    return re.compile(translate(re.sub(r"([?\[])", r"[\1]", pattern)))
