"""Gangs, services, retries, time limits, preparation, shares: what follows from what happens."""

import trio

from jobd.life import events as happened
from jobd.life.life import State, fold
from tests.jobd.conftest import SECOND_NS, Service
from tests.jobd.engine.drive import driving, refuse_events

GANG = "groups: [{name: w, count: 3, command: echo hi}]\n"


def test_a_gang_starts_all_its_processes_and_ends_with_the_last(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            node = await drive.attach()
            tasks = [task.task_id for task in await node.starts(3)]
            assert tasks == [f"{job}.1.0.{process}" for process in range(3)]
            await node.runs(*tasks)
            await node.ends(*tasks[:2])
            assert (await drive.life(job)).state is State.RUNNING
            await node.ends(tasks[2])
            life = await drive.until(job, State.SUCCEEDED)
            assert [process.code for process in life.processes] == [0, 0, 0]

    run(main)


def test_every_process_of_a_gang_has_its_own_environment_and_knows_the_hosts_of_all(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            node = await drive.attach()
            tasks = await node.starts(3)
            names = [task.hostname for task in tasks]
            assert names == [f"a-{job}-{worker}" for worker in range(3)]
            assert [task.env["WORKER_INDEX"] for task in tasks] == ["0", "1", "2"]
            assert {task.env["MASTER_ADDR"] for task in tasks} == {names[0]}
            assert all([name for name, _ in task.hosts] == names for task in tasks)
            addresses = [address for _, address in tasks[0].hosts]
            assert len(set(addresses)) == 3
            assert all(address.startswith("127.") and not address.startswith("127.0.") for address in addresses)

    run(main)


def test_a_process_that_fails_ends_its_fellows_and_they_do_not_count_as_failed(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, tasks = await drive.gang_runs(GANG, 3)
            await node.ends(tasks[1], code=7)
            await node.stops(tasks[0], tasks[2])
            await node.ends(tasks[0], tasks[2], code=143)
            life = await drive.until(job, State.FAILED)
            assert (life.exit_code, life.first_failure) == (7, 1)
            assert sorted(node.link.stopped) == [tasks[0], tasks[2]]

    run(main)


def test_fellows_of_a_process_that_ends_a_pit_have_five_seconds_to_end_by_themselves(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, tasks = await drive.gang_runs("end: any\n" + GANG, 3)
            await node.ends(tasks[0])
            await drive.until(job, State.STOPPING)
            service.now_ns += 4 * SECOND_NS
            await drive.quiet()
            assert node.link.stopped == []
            await node.ends(tasks[1])
            service.now_ns += 2 * SECOND_NS
            await node.stops(tasks[2])
            await node.ends(tasks[2], code=143)
            await drive.until(job, State.SUCCEEDED)
            assert [line for line in await drive.texts(job) if "requested stop" in line] == [
                "[daemon] Worker 0 requested stop. Stopping pit...",
                "[daemon] Worker 1 requested stop. Stopping pit...",
            ]

    run(main)


def test_services_start_first_and_are_stopped_when_the_others_are_over(service, run):
    async def main():
        async with driving(service) as drive:
            text = "groups: [{name: w, count: 2, command: a}, {name: s, service: true, command: b}]\n"
            job = await drive.submit(text)
            node = await drive.attach()
            (server,) = await node.starts()
            await drive.quiet()
            assert [task.task_id for task in node.link.started] == [f"{job}.1.1.0"]
            await node.runs(server.task_id)
            tasks = [task.task_id for task in await node.starts(3)]
            await node.runs(*tasks[:2])
            await node.ends(*tasks[:2])
            await node.stops(server.task_id)
            await node.ends(server.task_id, code=143)
            assert (await drive.until(job, State.SUCCEEDED)).exit_code == 0

    run(main)


def test_a_gang_that_fits_on_no_node_alone_is_spread_and_its_hosts_are_its_machines(service, run):
    async def main():
        async with driving(service) as drive:
            text = "groups: [{name: a, nodes: [n0], command: x}, {name: b, nodes: [n1], command: y}]\n"
            await drive.submit(text)
            first = await drive.attach("n0", attrs={"address": "10.0.0.1"})
            await drive.quiet()
            assert first.link.started == []
            second = await drive.attach("n1", attrs={"address": "10.0.0.2"})
            one, two = (await first.starts())[0], (await second.starts())[0]
            assert [address for _, address in one.hosts] == ["10.0.0.1", "10.0.0.2"]
            assert one.hosts == two.hosts

    run(main)


def test_a_job_that_failed_is_tried_again_under_its_number_as_often_as_it_wants(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, first = await drive.one_runs("command: x\nretry: {max: 1, on: [error]}\n")
            await node.ends(first, code=1)
            second = (await node.starts(2))[1]
            assert second.task_id == f"{job}.2.0.0"
            assert second.env["PFS_ATTEMPT"] == "2"
            await node.runs(first, second.task_id)
            await node.ends(first, code=0)  # of the attempt before: nobody wants to know
            assert (await drive.life(job)).state is State.RUNNING
            await node.ends(second.task_id, code=3)
            assert (await drive.until(job, State.FAILED)).exit_code == 3
            texts = await drive.texts(job)
            assert texts.count("[worker 0] Worker 0 started") == 2
            assert texts.count("[daemon] Pit daemon started") == 2

    run(main)


def test_every_state_of_a_job_is_the_fold_of_its_events(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("end: any\nretry: {max: 1, on: [error]}\n" + GANG)
            node = await drive.attach()
            for attempt in (1, 2):
                tasks = [task.task_id for task in (await node.starts(3 * attempt))[3 * attempt - 3 :]]
                await node.runs(*tasks)
                await node.ends(tasks[0], code=1)
                await node.stops(*tasks[1:])
                await node.ends(*tasks[1:], code=143)
            await drive.until(job, State.FAILED)
            over = await drive.job(job)
            assert fold(await drive.engine.ledger.history(over)) == over.life
            assert over.life.attempt == 2

    run(main)


def test_a_time_limit_survives_a_restart_and_an_extension_moves_it(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs("command: x\nmax_duration: 100s\n")
            await drive.engine.extend(service.ann, job, 50)
        service.now_ns += 120 * SECOND_NS
        async with driving(service) as drive:
            node = await drive.attach(tasks=[task])
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            service.now_ns += 31 * SECOND_NS
            await node.stops(task)
            await node.ends(task, code=143)
            await drive.until(job, State.TIMEOUT)
            assert "[daemon] The job reached its time limit" in await drive.texts(job)

    run(main)


def test_what_a_process_left_in_its_result_file_is_kept_and_tmp_goes(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            tmp = service.root / f"jobs/{job}/data/tmp"
            (tmp / task.env["RESULT_FILE"].rsplit("/", 1)[1]).write_text("accuracy 0.97")
            await node.ends(task.task_id)
            life = await drive.until(job, State.SUCCEEDED)
            assert life.processes[0].result == "accuracy 0.97"
            await drive.quiet()
            assert not tmp.exists()
            assert (service.root / f"jobs/{job}/data/keep").is_dir()

    run(main)


def test_a_kill_ends_a_preparation_that_goes_on(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            (service.root / "home/ann/pack").mkdir()
            begun, ended = trio.Event(), trio.Event()

            async def fill(job):
                begun.set()
                try:
                    await trio.sleep_forever()
                finally:
                    ended.set()

            monkeypatch.setattr(drive.engine._flow.workshop, "fill", fill)
            job = await drive.submit("command: x\nsrc: pack\n")
            with trio.fail_after(20):
                await begun.wait()
            await drive.engine.kill(service.ann, job)
            await drive.until(job, State.CANCELLED)
            with trio.fail_after(20):
                await ended.wait()

    run(main)


def test_a_reminder_that_an_extension_overtakes_ends_nothing(service, run):
    async def main():
        async with driving(service) as drive:
            job, _, _ = await drive.one_runs("command: x\nmax_duration: 100s\n")
            await drive.engine._flow._meet_deadline(drive.engine.ledger.get(job))
            assert (await drive.life(job)).state is State.RUNNING

    run(main)


def test_git_is_fetched_on_the_node_first_and_its_words_are_not_those_of_the_shell(service, run):
    async def main():
        async with driving(service) as drive:
            url = "https://example.org/x;touch$IFS/y.git"
            job = await drive.submit(f"command: make\ngit: {{url: '{url}', ref: main}}\n")
            node = await drive.attach()
            (fetch,) = await node.starts()
            assert fetch.task_id == f"{job}.1.1.0"
            assert fetch.argv[-2:] == (url, "main")
            assert url not in fetch.argv[2]
            assert fetch.runtime == "sandbox"
            await node.runs(fetch.task_id)
            size = await drive.engine.output(node.id, fetch.task_id, 0, [(service.now_ns, 3)], b"ok\n")
            assert size == 3
            await drive.quiet()
            assert len(node.link.started) == 1
            await node.ends(fetch.task_id)
            task = (await node.starts(2))[0]
            assert task.task_id == f"{job}.1.0.0"
            assert "[prepare] ok" in await drive.texts(job)

    run(main)


def test_git_that_fails_fails_the_job_with_the_reason(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, fetch = await drive.one_runs("command: make\ngit: {url: 'https://example.org/x'}\n")
            await node.ends(fetch, code=128)
            life = await drive.until(job, State.FAILED)
            assert "git" in life.reason
            assert (life.exit_code, len(node.link.started)) == (125, 1)

    run(main)


def test_who_used_less_of_late_comes_first_and_that_survives_a_restart(service, run):
    async def main():
        async with driving(service) as drive:
            hog, node, task = await drive.one_runs(name="hog")
            service.now_ns += 3600 * SECOND_NS
            await node.ends(task)
            await drive.until(hog, State.SUCCEEDED)
            node.leaves()
            mine = await drive.submit(name="mine")
            theirs = await drive.submit(name="theirs", user=service.bob)
            await drive.quiet()
            assert [job.id for job in drive.engine.queue()] == [theirs, mine]
        async with driving(service) as drive:
            assert [job.id for job in drive.engine.queue()] == [theirs, mine]
            assert [drive.engine.standing(job).place for job in drive.engine.queue()] == [1, 2]

    run(main)


def test_a_job_whose_owner_lost_the_right_to_the_only_node_is_taken_off_with_the_reason(service, run):
    from jobd.store.nodes import Policy

    async def main():
        async with driving(service) as drive:
            node = await drive.attach(runtimes=["sandbox"])
            node.leaves()
            reserved = {node.id: frozenset({"lab"})}
            await drive.engine.set_policy(Policy(node_groups=reserved, members={"ann": frozenset({"lab"})}))
            job = await drive.submit()
            await drive.quiet()
            assert (await drive.life(job)).state is State.WAITING
            await drive.engine.set_policy(Policy(node_groups=reserved))
            life = await drive.until(job, State.CANCELLED)
            assert life.reason

    run(main)


def test_gpus_are_given_by_uuid_and_never_twice(service, run):
    async def main():
        async with driving(service) as drive:
            gpus = [{"uuid": f"GPU-{n}", "index": n, "model": "X", "memory_bytes": 1} for n in range(3)]
            node = await drive.attach(gpus=gpus, runtimes=["sandbox"])
            for name in "abc":
                count = 2 if name == "a" else 1
                await drive.submit(f"command: x\nresources: '[{count}:X]'\n", name=name)
            tasks = await node.starts(2)
            await drive.quiet()
            given = [uuid for task in node.link.started for uuid in task.gpus]
            assert sorted(given) == ["GPU-0", "GPU-1", "GPU-2"]
            assert all(task.env["NVIDIA_VISIBLE_DEVICES"] == ",".join(task.gpus) for task in tasks)

    run(main)


def test_a_database_that_refuses_for_a_while_forgets_no_end_of_a_gang(service: Service, run, monkeypatch):
    async def main():
        monkeypatch.setattr("jobd.engine.chores.AGAIN_S", 0.01)
        refused = []

        def is_refused(_job_id, events):
            if any(isinstance(event, happened.Placed) for event in events):
                refused.append(events)
                return len(refused) < 3
            return False

        refuse_events(service, monkeypatch, is_refused)
        async with driving(service) as drive:
            await drive.submit(GANG)
            node = await drive.attach()
            assert len(await node.starts(3)) == 3

    run(main)


def test_a_job_that_was_placed_and_ended_while_somebody_waited_for_it_is_on_no_node(service: Service, run):
    async def main():
        async with driving(service) as drive:
            job_id = await drive.submit()
            flow = drive.engine._flow
            active = flow.ledger.get(job_id)
            placed = happened.Placed(time_ns=1, places=(happened.Place("cmn0"),))
            lost = happened.NodeLost(time_ns=1, attempt=1, worker=0, text="gone")
            async with trio.open_nursery() as nursery, active.lock:
                nursery.start_soon(flow.apply, active, placed)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(flow.apply, active, lost)
                await trio.testing.wait_all_tasks_blocked()
            assert (await drive.life(job_id)).state is State.NODE_LOST
            assert not flow._on_node

    run(main)
