"""Words of PaddleCloud for what is known otherwise."""

import pytest

from jobd.rest.words import meaning_of, namespace_of


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, ""),
        (0, ""),
        (1, "it ended with 1"),
        (128, "it ended with 128"),
        (137, "it was ended by SIGKILL: Killed"),
        (139, "it was ended by SIGSEGV: Segmentation fault"),
        (255, "it ended with 255"),
    ],
)
def test_an_exit_code_is_put_in_words_where_there_are_any(code: int | None, text: str) -> None:
    assert meaning_of(code) == text


def test_a_namespace_has_only_what_kubernetes_allows() -> None:
    assert namespace_of("ann.b_c@example.org") == "ann-b-c-example-org"
