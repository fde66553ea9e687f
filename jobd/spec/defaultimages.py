"""The image of a job in PaddleCloud's fields that names none: the datacenter's, as clients of PaddleCloud expect.

They send an empty name and mean "that of the server", which has one for jobs with GPUs and one for all others. It is
looked up once, when a job is submitted: what an administrator decides later is for later jobs. Every other job without
an image runs in a sandbox, and means it.
"""

from dataclasses import dataclass, replace

from jobd.spec.model import JobSpec
from pfs.errors import Kind, PfsError

NO_IMAGE = (
    "the job names no image, and this datacenter has none for such jobs; name one (image, or paddle submit -image NAME)"
    ", or have an administrator say once which it is, with: jobd image NAME"
)


@dataclass(frozen=True, slots=True)
class DefaultImages:
    """What administrators chose; "" for none.

    Attributes:
        every: for all jobs.
        gpu: for those that ask for GPUs, where that is another one.
    """

    every: str = ""
    gpu: str = ""


def with_default_image(spec: JobSpec, images: DefaultImages) -> JobSpec:
    """Return a job with the image that it runs in, all of its groups with the same.

    Raises:
        PfsError: INVALID where it names none and there is none for it.
    """
    if spec.paddle is None or all(group.image for group in spec.groups):
        return spec
    wants_gpus = any(group.gpus for group in spec.groups)
    image = (images.gpu if wants_gpus else "") or images.every
    if not image:
        raise PfsError(Kind.INVALID, NO_IMAGE)
    return replace(spec, groups=tuple(replace(group, image=image) for group in spec.groups))
