"""`jobd image`: the image of jobs in PaddleCloud's fields that name none."""

from typing import TYPE_CHECKING

import click

from cli.server.administration import data_root_option, database_option, opened

if TYPE_CHECKING:
    from jobd.spec.defaultimages import DefaultImages


@click.command()
@data_root_option
@database_option
@click.option("--gpu", is_flag=True, help="For jobs that ask for GPUs; without one they have that of the others.")
@click.option("--remove", is_flag=True, help="There is none any more.")
@click.argument("name", required=False)
def image(*, data_root: str | None, database: str | None, gpu: bool, remove: bool, name: str | None) -> None:
    """Let jobs in PaddleCloud's fields that name no image have NAME; without NAME, print what they have.

    Jobs that were submitted already keep what they have.
    """
    from jobd.spec.sources import image_problem

    if name is not None and remove:
        raise click.UsageError("a NAME, or --remove")
    problem = None if name is None else image_problem(name)
    if problem is not None:
        raise click.UsageError(problem)
    with opened(data_root, database) as store:
        if name is not None or remove:
            store.jobs.set_default_image_now(name or "", gpu=gpu)
        _tell(store.jobs.policy_now().images)


COMMANDS = (image,)


def _tell(images: "DefaultImages") -> None:
    click.echo(f"image: {images.every or 'none'}")
    click.echo(f"with GPUs: {images.gpu or images.every or 'none'}")
