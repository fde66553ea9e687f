"""How options are spelled, as Go's programs take them."""

import click
import pytest
from click.testing import CliRunner

from cli.dashes import DashCommand


@click.command(cls=DashCommand)
@click.option("-n", "--lines", type=int, default=10)
@click.option("-rm", "--rm", "removes", is_flag=True)
@click.option("-a", "--all", "everything", is_flag=True)
@click.argument("words", nargs=-1)
def told(lines: int, words: tuple[str, ...], *, removes: bool, everything: bool) -> None:
    """Tell what was read."""
    click.echo(f"{lines} {removes} {everything} {' '.join(words)}".rstrip())


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("-n=3 x", "3 False False x"),
        ("-n 3 x", "3 False False x"),
        ("-n3 x", "3 False False x"),
        ("x -lines=3", "3 False False x"),
        ("x --lines=3", "3 False False x"),
        ("-rm=true x", "10 True False x"),
        ("-rm=1 x", "10 True False x"),
        ("--rm=T x", "10 True False x"),
        ("-rm=false x", "10 False False x"),
        ("-all=f -rm x", "10 True False x"),
        ("-a=true -n=3", "3 False True"),
        ("-- -rm=true", "10 False False -rm=true"),
        ("-rm -- -n=3", "10 True False -n=3"),
    ],
)
def test_any_option_may_have_its_value_behind_a_sign_of_equality(words: str, read: str) -> None:
    done = CliRunner().invoke(told, words.split())
    assert (done.exit_code, done.output) == (0, f"{read}\n")


@pytest.mark.parametrize("words", ["-rm=perhaps", "-n=many", "-n=", "-x=3", "-xyz=3"])
def test_what_is_no_value_is_refused(words: str) -> None:
    assert CliRunner().invoke(told, words.split()).exit_code == 2
