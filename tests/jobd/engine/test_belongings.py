"""Whose quota files count for."""

from jobd.engine.belongings import belongs, further


def test_the_data_of_a_job_that_is_not_over_counts_for_its_owner() -> None:
    home_of = belongs({17: "ann"}.get)
    for domain in ("jobs/17/data", "jobs/17/data/src"):
        assert home_of(domain) == "home/ann"
    for domain in ("jobs/18/data", "jobs/17", "jobs/x/data", "home/bob", "groups/ml", "shared", "jobs"):
        assert home_of(domain) == domain


def test_a_home_counts_with_the_data_of_all_jobs_and_a_group_alone() -> None:
    data_of = further({"ann": [3, 4]}.__getitem__)
    assert list(data_of("home/ann")) == ["jobs/3/data", "jobs/4/data"]
    assert list(data_of("groups/ann")) == []
