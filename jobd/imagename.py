"""The name of a container image, as an engine reads it: `python` is `docker.io/library/python:latest`."""

from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"


@dataclass(frozen=True, slots=True)
class Image:
    """The name of an image in full; a digest leaves the tag without a meaning, so there is only one of them."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def repository(self) -> str:
        """What it has in common with all others of its kind: the registry, and the path there."""
        return f"{self.registry}/{self.path}"


def image_of(name: str, tag: str = "latest") -> Image:
    """Return what an engine understands by the name of an image.

    Args:
        tag: that of a name with neither tag nor digest.
    """
    if name == "*":
        return Image("*", "*")
    name, _, digest = name.partition("@")
    first, slash, rest = name.partition("/")
    is_registry = bool(slash) and ("." in first or ":" in first or first == "localhost" or "*" in first)
    registry, path = (first, rest) if is_registry else (DEFAULT_REGISTRY, name)
    path, _, own_tag = path.partition(":")
    registry = registry_of(registry)
    if registry == DEFAULT_REGISTRY and "/" not in path and path != "*":
        path = f"library/{path}"
    return Image(registry, path, "" if digest else own_tag or tag, digest)


def registry_of(address: str) -> str:
    """Return the name under which images know a registry: of `https://index.docker.io/v1/` it is `docker.io`."""
    host = address.lower().removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_REGISTRY if host == f"index.{DEFAULT_REGISTRY}" else host
