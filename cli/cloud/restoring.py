"""`paddle restore`: jobs come back from the trash of the server."""

import click

from cli import reaching
from cli.cloud.options import Voice, dc_option, doing
from cli.dashes import DashCommand
from cli.errors import going_on


@click.command(cls=DashCommand)
# what is in the trash is in no listing: there is nothing to complete from
@click.argument("jobs", metavar="JOB…", nargs=-1, required=True)
@doing
@dc_option
def restore(jobs: tuple[str, ...], voice: Voice, dc: str | None) -> int:
    """Bring JOBs back that were removed in the last 14 days: names or numbers; all that they had is there again."""
    from cli.sdk import operations
    from cli.sdk.way import asked

    done: list[dict[str, object]] = []
    with reaching.connected(dc) as client, voice.telling(done):

        def bring_back(job: str) -> None:
            done.append({"job": asked(client, operations.restore_job, job), "restored": True})

        return going_on(jobs, bring_back)
