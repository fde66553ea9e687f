"""Which image a job has that names none."""

import pytest

from jobd.spec.defaultimages import DefaultImages, with_default_image
from jobd.spec.spec import parse_spec
from pfs.errors import Kind, PfsError

IMAGES = DefaultImages("paddle:cpu", "paddle:gpu")


def images_of(text: str, images: DefaultImages) -> list[str | None]:
    spec = with_default_image(parse_spec(text.encode(), "a"), images)
    return [group.image for group in spec.groups]


@pytest.mark.parametrize(
    ("text", "images", "has"),
    [
        ("entry: x\n", IMAGES, "paddle:cpu"),
        ('entry: x\nimage: ""\n', IMAGES, "paddle:cpu"),
        ("entry: x\ngpu: 1\n", IMAGES, "paddle:gpu"),
        ("entry: x\ngpu: 1\n", DefaultImages("paddle:cpu"), "paddle:cpu"),
        ("entry: x\nimage: own\ngpu: 1\n", IMAGES, "own"),
    ],
)
def test_trainers_and_parameter_servers_have_the_same_image(text: str, images: DefaultImages, has: str) -> None:
    assert images_of(text, images) == [has, has]


@pytest.mark.parametrize("images", [DefaultImages(), DefaultImages("", "paddle:gpu")])
def test_a_job_that_has_none_and_gets_none_is_told_what_to_do(images: DefaultImages) -> None:
    with pytest.raises(PfsError, match=r"-image NAME\), or have an administrator .* jobd image NAME$") as caught:
        images_of("entry: x\n", images)
    assert caught.value.kind is Kind.INVALID


def test_every_other_job_without_an_image_means_it() -> None:
    assert images_of("command: x\n", IMAGES) == [None]
