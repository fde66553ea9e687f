"""While a daemon loads nothing is collected, and what it has loaded is left alone."""

import gc

import pytest

from cli.loading import loading


def test_nothing_is_collected_in_the_block_and_what_it_made_never() -> None:
    with loading():
        assert not gc.isenabled()
        made = [[]]
    assert gc.isenabled()
    assert not any(each is made for each in gc.get_objects())
    later = [[]]
    assert any(each is later for each in gc.get_objects())


def test_garbage_is_collected_again_where_loading_fails() -> None:
    with pytest.raises(ModuleNotFoundError), loading():
        import nothing_of_this_name  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
