"""What jobs get of the secrets that people keep: any text for processes, and credentials for registries of images.

A credential is a short text:

    server: registry.example.org:5000
    username: ann
    password: …

Nothing that is said of such a text repeats any of it: what was put there by mistake may be a password as well.
"""

from collections.abc import Awaitable, Callable

from jobd.imagename import image_of, registry_of
from jobd.spec.model import JobSpec
from jobd.spec.text import Mapping, Scalar, SpecError, read
from jobd.wire import SECRETS, Credential
from pfs.errors import Kind, PfsError

KEYS = ("server", "username", "password")

FindSecret = Callable[[str, str], Awaitable[bytes | None]]  # of a user, by its name


async def no_secret(user: str, name: str) -> None:
    """Find nothing: nobody keeps any secret."""


def parse_credential(name: str, text: bytes) -> Credential:
    """Return the credential that a secret holds.

    Raises:
        PfsError: INVALID when it holds none.
    """
    values: dict[str, str] = {}
    try:
        document = read(text, whole=True)
    except SpecError:
        raise _no_credential(name) from None
    if document.problems or not isinstance(document.root, Mapping):
        raise _no_credential(name)
    for key, value in document.root.entries:
        if key.text not in KEYS or not isinstance(value, Scalar) or value.is_null or not value.text.strip():
            raise _no_credential(name)
        values[key.text] = value.text.strip() if key.text != "password" else value.text
    if len(values) < len(KEYS):
        raise _no_credential(name)
    return Credential(registry_of(values["server"]), values["username"], values["password"])


def _no_credential(name: str) -> PfsError:
    text = f"the secret {name} is no credential; write three lines into it: server: … username: … password: …"
    return PfsError(Kind.INVALID, f"registry: {text}")


def credential_for(image: str | None, credential: Credential | None) -> Credential | None:
    """Return the credential for an image: none for a registry that it is not for."""
    if image is None or credential is None or image_of(image).registry != credential.server:
        return None
    return credential


def check_use(spec: JobSpec, credential: Credential) -> None:
    """Refuse a credential that none of a job's images needs: it would go to a registry that it is not for.

    Raises:
        PfsError: INVALID.
    """
    images = [group.image for group in spec.groups if group.image is not None]
    if not images:
        raise PfsError(Kind.INVALID, "registry: the job has no image; remove this, or name one with image:")
    if not any(credential_for(image, credential) for image in images):
        others = ", ".join(sorted({image_of(image).registry for image in images}))
        text = f"the secret {spec.registry} is for {credential.server}, and the image comes from {others}"
        raise PfsError(Kind.INVALID, f"registry: {text}; name the image with its registry, or another secret")


async def find_secrets(secret: FindSecret, user: str, spec: JobSpec) -> dict[str, bytes]:
    """Return the secrets of a user that a job's processes get, by name.

    Raises:
        PfsError: INVALID when one is not there.
    """
    found = {name: await secret(user, name) for name in spec.secrets}
    if missing := [name for name, text in found.items() if text is None]:
        raise PfsError(Kind.INVALID, f"secrets: there is no secret {missing[0]}; write it to secrets/{missing[0]}")
    return {name: text for name, text in found.items() if text is not None}


def check_places(spec: JobSpec) -> None:
    """Refuse a folder where the secrets of a job's processes are.

    Raises:
        PfsError: INVALID.
    """
    for mount in spec.mounts:
        if spec.secrets and f"{mount.target}/".startswith(f"{SECRETS}/"):
            raise PfsError(Kind.INVALID, f"mounts: {SECRETS} holds the secrets of the job; choose another target")


async def find_credential(secret: FindSecret, user: str, name: str | None) -> Credential | None:
    """Return the credential that a user keeps under a name; None where no name is given.

    Raises:
        PfsError: INVALID when there is no such secret, or it is no credential.
    """
    if name is None:
        return None
    text = await secret(user, name)
    if text is None:
        raise PfsError(Kind.INVALID, f"registry: there is no secret {name}; write the credential to secrets/{name}")
    return parse_credential(name, text)
