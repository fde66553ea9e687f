"""What `jobd image` sets and tells."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.jobd import jobd
from cli.server.datacenter import Store
from jobd.spec.defaultimages import DefaultImages


def run(root: Path, *words: str) -> Result:
    return CliRunner().invoke(jobd, ["image", "--data-root", str(root), *words])


def images_in(root: Path) -> DefaultImages:
    store = Store(str(root), None, exclusive=False)
    try:
        return store.jobs.policy_now().images
    finally:
        store.close()


def test_there_is_one_for_all_jobs_and_one_for_those_with_gpus(root: Path) -> None:
    assert run(root).output == "image: none\nwith GPUs: none\n"
    assert run(root, "paddle:1").output == "image: paddle:1\nwith GPUs: paddle:1\n"
    assert run(root, "--gpu", "paddle:1-gpu").output == "image: paddle:1\nwith GPUs: paddle:1-gpu\n"
    assert images_in(root) == DefaultImages("paddle:1", "paddle:1-gpu")
    assert run(root, "--gpu", "--remove").output == "image: paddle:1\nwith GPUs: paddle:1\n"
    assert run(root, "--remove").output == "image: none\nwith GPUs: none\n"
    assert images_in(root) == DefaultImages()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Paddle",), "names of images are lower case, such as paddle"),
        (("https://r/x",), "write it without https://"),
        (("",), "is no image name"),
        (("x", "--remove"), "a NAME, or --remove"),
    ],
)
def test_what_is_no_image_is_refused_and_nothing_is_kept(root: Path, words: tuple[str, ...], said: str) -> None:
    done = run(root, *words)
    assert (done.exit_code, said in done.output) == (2, True), done.output
    assert images_in(root) == DefaultImages()
