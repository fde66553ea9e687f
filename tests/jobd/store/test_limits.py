"""What jobs may have at once, in SQL: by holder, and among what administrators decided."""

from jobd.scheduling.quotas import JobLimits


def test_limits_are_kept_by_holder_and_are_a_part_of_the_policy(service, run):
    async def main():
        store = service.store
        assert (store.job_limits_now("ann"), (await store.policy()).quotas) == (JobLimits(), {})
        store.set_job_limits_now("ann", JobLimits(1, 2, 0))
        store.set_job_limits_now("groups/ann", JobLimits(gpus=8))
        store.set_job_limits_now("ann", JobLimits(running=3))
        assert store.job_limits_now("ann") == JobLimits(running=3)
        assert (await store.policy()).quotas == {"ann": JobLimits(running=3), "groups/ann": JobLimits(gpus=8)}
        store.set_job_limits_now("ann", JobLimits())
        assert (await store.policy()).quotas == {"groups/ann": JobLimits(gpus=8)}

    run(main)
