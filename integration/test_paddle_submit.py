"""`paddlecloud submit`: a package is brought to its folder and runs there, in real containers."""

import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from integration.box import Box, box, wait_until
from integration.engine import BUSYBOX_IMAGE, add_busybox, busybox_image, docker_client, own_engine
from integration.test_paddle import paddle, with_password

OLD_IMAGE = "pfs-test-old"


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with own_engine() as engine, box() as made:
        with docker_client(engine.base_url) as client:
            busybox_image(client)
            client.import_image_from_data(of_an_image(), repository=OLD_IMAGE, changes=["ENV LD_LIBRARY_PATH=/opt/lib"])
        with_password(made)
        made.start_server()
        made.start_node("n0", engine.base_url)
        yield made


# parameter servers run the entry as well, where there is no paddle
TRAIN = """\
[ "$PADDLE_TRAINING_ROLE" = PSERVER ] && { echo serving; exec sleep 600; }
echo "trainer $PADDLE_TRAINER_ID of $PADDLE_TRAINERS in $(pwd)"
while [ -e wait ]; do sleep 0.1; done
cat data > "out-$PADDLE_TRAINER_ID"
"""
JOBS_FOLDER = "/pfs/dc1/home/ann/jobs"
STEPS = "Collecting package ... Done\nUploading package ... Done\nStarting job ... Done\n"


def test_a_package_is_brought_to_its_folder_and_runs_there(made: Box) -> None:
    package, folder = made.root / "package", made.data / "home/ann/jobs/emb"
    package.mkdir()
    (package / "train.sh").write_text(TRAIN)
    (package / "data").write_text("first\n")
    (package / ".gitignore").write_text("data\n")
    (package / "old").touch()
    (made.root / "elsewhere").write_text("linked\n")
    (package / "linked").symlink_to(made.root / "elsewhere")
    (package / "wait").touch()
    words = ["-jobname", "emb", "-parallelism=2", "-pservers=1", "-cpu=0.1", "-pscpu=0.1", "-memory=64Mi"]
    words += ["-psmemory=64Mi", "-image", BUSYBOX_IMAGE, "-entry", "sh train.sh", str(package)]

    assert "command" not in paddle(made, "submit", *words, "--dry-run")
    assert not folder.exists()
    said = paddle(made, "submit", *words)
    number = said.removeprefix(f"{STEPS}Job ").strip()
    assert said == f"{STEPS}Job {number}\n"
    wait_until(lambda: f"trainer 1 of 2 in {JOBS_FOLDER}/emb" in paddle(made, "logs", number))

    # the job keeps its folder until it is over
    assert f"job {number} runs in the folder jobs/emb" in paddle(made, "submit", *words, status=1)
    (folder / "wait").unlink()
    assert paddle(made, "wait", number) == ""
    assert (folder / "out-1").read_text() == "first\n"
    assert (folder / "linked").read_text() == "linked\n"
    [job] = [each for each in json.loads(paddle(made, "get", "jobs", "-a", "--json")) if each["name"] == "emb"]
    assert (job["job_package"], job["parallelism"], job["pservers"]) == (f"{JOBS_FOLDER}/emb", 2, 1)

    # what is gone here is removed there, but what the job made, or changed, stays
    (package / "old").unlink()
    (package / "wait").unlink()
    (package / "data").write_text("second\n")
    number = paddle(made, "submit", *words, "-q").strip()
    assert paddle(made, "wait", number) == ""
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "data",
        "linked",
        "out-0",
        "out-1",
        "train.sh",
    ]
    assert (folder / "out-0").read_text() == "second\n"

    # a folder of the datacenter is used as it is
    again = ["-jobname", "again", "-p=1", "-c=0.1", "-m=64Mi", "-pscpu=0.1", "-psmemory=64Mi"]
    again += ["-image", BUSYBOX_IMAGE, "-entry", "sh train.sh"]
    done = made.run("paddle", "submit", f"{JOBS_FOLDER}/emb", *again, "--log")
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "Starting job ... Done")
    assert f"trainer 0 of 1 in {JOBS_FOLDER}/emb" in done.stdout


# what programs for the first API read, in an image that has such files of its own
LISTS = """\
image: {image}
job_package: /pfs/dc1/home/ann/lists
entry: sh train.sh
parallelism: 2
pservers: 1
cpu: 0.1
pscpu: 0.1
memory: 64Mi
psmemory: 64Mi
env: {{MASTER_IP: 10.0.0.7}}
"""
READ = """\
[ "$PADDLE_TRAINING_ROLE" = PSERVER ] && { echo server: $(cat /trainer_id); exec sleep 600; }
echo "$(cat /trainer_id) of $(cat /trainer_count): $(cat /train.list | tr '\\n' ' ')"
echo "$LD_LIBRARY_PATH $MASTER_IP"
"""


def of_an_image() -> bytes:
    """Return what is in an image with a shell, whose maker has put a file there under a name of PaddleCloud's."""
    tar, own = io.BytesIO(), tarfile.TarInfo("trainer_id")
    own.size = 6
    with tarfile.open(fileobj=tar, mode="w") as archive:
        add_busybox(archive)
        archive.addfile(own, io.BytesIO(b"image\n"))
    return tar.getvalue()


def test_trainers_find_their_number_and_their_share_of_the_list(made: Box) -> None:
    package = made.data / "home/ann/lists"
    package.mkdir()
    (package / "train.sh").write_text(READ)
    (package / "train.list").write_text("a\nb\nc\nd\ne\n")
    (made.root / "lists.yaml").write_text(LISTS.format(image=OLD_IMAGE))

    number = paddle(made, "submit", str(made.root / "lists.yaml")).split()[1]
    assert paddle(made, "wait", number) == ""
    said = "/opt/lib:/usr/local/nvidia/lib64:/usr/local/cuda/lib64 10.0.0.7"
    assert paddle(made, "logs", "-w", "lists-trainer-0", number).splitlines() == ["0 of 2: a b ", said]
    assert paddle(made, "logs", "-w", "lists-trainer-1", number).splitlines() == ["1 of 2: c d e ", said]
    assert paddle(made, "logs", "-w", "lists-pserver-0", number).splitlines() == ["server: image"]

    for make, words in (
        (lambda path: path.write_text("a\n"), "train.list has fewer lines (1) than the job has trainers (2); "),
        (
            lambda path: path.symlink_to("/etc/passwd"),
            "train.list cannot be read: it is a link, and none is followed; ",
        ),
    ):
        (package / "train.list").unlink()
        make(package / "train.list")
        number = paddle(made, "submit", str(made.root / "lists.yaml")).split()[1]
        assert paddle(made, "wait", number, status=125) == ""
        assert words in paddle(made, "why", number)
        assert " of 2: " not in paddle(made, "logs", number)


def test_what_cannot_be_submitted_is_told_in_one_line(made: Box) -> None:
    assert made.run("jobd", "quota", "ann", "--gpus", "1", "--data-root", str(made.data)).returncode == 0
    paddle(made, "jobs")  # from here on there is a token
    (made.root / "small").mkdir()
    wrong = [
        ("no topology or entry specified", ["-p", "2", "."]),
        ("package not exist in cloud: /pfs/dc1/home/ann/nowhere", ["-entry", "x", "/pfs/dc1/home/ann/nowhere"]),
        ("there is no nowhere here", ["-entry", "x", "nowhere"]),
        ("memory: ", ["-entry", "x", "-memory", "much", "/pfs/dc1/home/ann"]),
        ("request: 2, usage: 0, limit: 1", ["-entry", "x", "-gpu", "2", "/pfs/dc1/home/ann"]),
        ("quota is 1 at once, 0 in use", ["-entry", "x", "-image", "a:1", "-gpu", "2", str(made.root / "small")]),
        ("registry", ["-entry", "x", "-registry", "nonesuch", "-image", "a:1", "/pfs/dc1/home/ann"]),
    ]
    for text, words in wrong:
        done = made.run("paddlecloud", "submit", *words)
        assert (done.returncode > 0, done.stdout, done.stderr.count("\n"), text in done.stderr) == (
            True,
            "",
            1,
            True,
        ), done.stderr
