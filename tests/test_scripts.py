"""Runs every golden script: `scripts/<kind>/*.txt`, by the handler that `scripts/<kind>/verbs.py` makes."""

import importlib
from pathlib import Path

import pytest

from tests import golden

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*/*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_script(path: Path, request: pytest.FixtureRequest) -> None:
    verbs = importlib.import_module(f"tests.scripts.{path.parent.name}.verbs")
    golden.check(path, verbs.start(), request.config.getoption("--rewrite"))


def test_there_are_scripts() -> None:
    assert SCRIPTS


def test_a_step_keeps_its_question_and_gets_its_answer() -> None:
    script = "# why\nsay a b\nc\n{blank}\n----\nold\n"
    assert golden.replay(script, repr) == (
        "# why\nsay a b\nc\n{blank}\n----\nStep(words=('say', 'a', 'b'), text='c\\n\\n')\n"
    )


def test_a_wrong_answer_fails_and_rewriting_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("say\n----\nold\n")
    with pytest.raises(AssertionError):
        golden.check(path, lambda _: "new", rewrite=False)
    golden.check(path, lambda _: "new", rewrite=True)
    golden.check(path, lambda _: "new", rewrite=False)
    assert path.read_text() == "say\n----\nnew\n"
