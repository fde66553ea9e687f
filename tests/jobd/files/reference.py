"""What every file of the tree is: one entry for each kind, which README shows and tests hold against a live tree.

A path is written as in README: `<id>` is a number, any other word in brackets a name. A task of an array has all that
a job has, and a further machine of a node all that a node has.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from pfs.api import Attr, NodeType

_AGAIN = ((r"^(jobs/\d+)/tasks/[^/]+/", r"\1/"), (r"^(nodes/[^/]+)/instances/[^/]+/", r"\1/"))


class How(StrEnum):
    """What one does with a file."""

    FOLDER = "folder"  # made by the server
    FILES = "files"  # a folder of ordinary files
    LINK = "link"
    TEXT = "text"  # made by the server, with its true size
    GROWS = "grows"  # the same, and more comes while it is open
    STREAM = "stream"  # a read waits for more, until the job is over
    CONTROL = "control"  # what is written to it is done
    WRITTEN = "written"  # a text of one's own, which means something to the server


_NODE_TYPES = {How.FOLDER: NodeType.DIRECTORY, How.FILES: NodeType.DIRECTORY, How.LINK: NodeType.SYMLINK}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: where it is, what one does with it, and what it is."""

    path: str
    how: How
    text: str

    def fits(self, path: str, attr: Attr) -> bool:
        """Tell whether a file of the tree is one of this kind."""
        if attr.type is not _NODE_TYPES.get(self.how, NodeType.FILE):
            return False
        is_written = self.how in (How.CONTROL, How.WRITTEN)
        if attr.type is NodeType.FILE and is_written is not (attr.mode & 0o222 != 0):
            return False
        words = re.split(r"(<\w+>)", self.path.rstrip("/"))
        return re.fullmatch("".join(map(_pattern, words)), path) is not None


def _pattern(word: str) -> str:
    return {"<id>": r"\d+"}.get(word, r"[^/]+") if word.startswith("<") else re.escape(word)


def kind_of(path: str, attr: Attr) -> Kind | None:
    """Return the kind of a file of the tree; None for one that has none."""
    for again, first in _AGAIN:
        path = re.sub(again, first, path)
    return next((kind for kind in KINDS if kind.fits(path, attr)), None)


def reference() -> str:
    """Return all kinds as README shows them."""
    width = max(len(kind.path) for kind in KINDS)
    return "".join(f"{kind.path:{width}}  {kind.how:7}  {kind.text}\n" for kind in KINDS)


KINDS = (
    Kind("README.txt", How.TEXT, "how to submit, with an example that works here"),
    Kind("home/", How.FOLDER, "your home; for administrators everybody's"),
    Kind("home/me", How.LINK, "to your home"),
    Kind("home/<user>/", How.FILES, "your files"),
    Kind("groups/", How.FOLDER, "the groups that you are in"),
    Kind("groups/<group>/", How.FILES, "files that all members may change"),
    Kind("shared/", How.FILES, "files for everybody, which nobody changes here"),
    Kind("public", How.LINK, "to shared/"),
    # what people put into jobs/
    Kind("jobs/", How.FOLDER, "the jobs that you may read, your specs, and your names for jobs"),
    Kind("jobs/<name>.yaml", How.WRITTEN, "a drop (.yml, .json): a complete spec that is closed is submitted"),
    Kind("jobs/<name>.error", How.TEXT, "why the last drop of that name was refused: line, column, cure"),
    Kind("jobs/<name>", How.LINK, "to the newest job that was dropped under that name, or has it in its spec"),
    Kind("jobs/<other>", How.WRITTEN, "your scratch: no job, 1 MiB at most, gone after a day"),
    Kind("jobs/by-state/", How.FOLDER, "a folder for each state"),
    Kind("jobs/by-state/<state>/", How.FOLDER, "the jobs that stand there now"),
    Kind("jobs/by-state/<state>/<id>", How.LINK, "to the job; of an array, to the array"),
    Kind("jobs/by-user/", How.FOLDER, "a folder for each user whose jobs you may read"),
    Kind("jobs/by-user/<user>/", How.FOLDER, "the user's jobs"),
    Kind("jobs/by-user/<user>/<id>", How.LINK, "to the job"),
    Kind("jobs/by-node/", How.FOLDER, "a folder for each node"),
    Kind("jobs/by-node/<node>/", How.FOLDER, "the jobs with processes there, and those that ended there"),
    Kind("jobs/by-node/<node>/<id>", How.LINK, "to the job; to a task of an array while it is there"),
    # a job
    Kind("jobs/<id>/", How.FOLDER, "a job; its time is that of the last change of its state"),
    Kind("jobs/<id>/spec.yaml", How.TEXT, "exactly what was written"),
    Kind("jobs/<id>/resolved.yaml", How.TEXT, "the same with all defaults, nodes, GPUs, and images by their digests"),
    Kind("jobs/<id>/state", How.TEXT, "where it stands, one word; poll wakes up when that changes"),
    Kind("jobs/<id>/status", How.TEXT, "all facts about it, a key and its value in each line"),
    Kind("jobs/<id>/why", How.TEXT, "why it waits, or failed, with numbers and what would help"),
    Kind("jobs/<id>/events", How.GROWS, "what happened to it, a line each"),
    Kind("jobs/<id>/log", How.STREAM, "all output so far, then live, until the job is over"),
    Kind("jobs/<id>/log.txt", How.GROWS, "the output so far"),
    Kind("jobs/<id>/wait", How.STREAM, "silent until the job is over, then its exit code"),
    Kind("jobs/<id>/exit_code", How.TEXT, "there once the job is over"),
    Kind("jobs/<id>/ctl", How.CONTROL, "commands of its owner, and of administrators; reading it prints them"),
    Kind("jobs/<id>/patch", How.TEXT, "what a shipped tree differs by from its commit; there where it does"),
    Kind("jobs/<id>/src/", How.FILES, "the folder in which it starts"),
    Kind("jobs/<id>/keep/", How.FILES, "what stays from one attempt to the next"),
    Kind("jobs/<id>/out/", How.FILES, "what it leaves behind"),
    Kind("jobs/<id>/processes/", How.FOLDER, "a folder for each process of the present attempt; an array has none"),
    Kind("jobs/<id>/processes/<g>.<p>/", How.FOLDER, "process p of group g"),
    Kind("jobs/<id>/processes/<g>.<p>/state", How.TEXT, "where it stands, in the words of jobs"),
    Kind("jobs/<id>/processes/<g>.<p>/node", How.TEXT, "the node that it is on"),
    Kind("jobs/<id>/processes/<g>.<p>/gpus", How.TEXT, "its GPUs: number, UUID and model, a line each"),
    Kind("jobs/<id>/processes/<g>.<p>/env", How.TEXT, "its variables, quoted for a shell"),
    Kind("jobs/<id>/processes/<g>.<p>/log", How.STREAM, "its bytes, unchanged, of all attempts"),
    Kind("jobs/<id>/processes/<g>.<p>/log.txt", How.GROWS, "the same so far"),
    Kind("jobs/<id>/processes/<g>.<p>/exit_code", How.TEXT, "there once it is over"),
    Kind("jobs/<id>/processes/<g>.<p>/result", How.TEXT, "what it wrote into its $RESULT_FILE; there once it is over"),
    Kind("jobs/<id>/processes/<g>.<p>/before", How.TEXT, "how the one ended that it replaces; there where it does"),
    Kind("jobs/<id>/tasks/", How.FOLDER, "of an array: a folder for each task, by its number in the array"),
    Kind("jobs/<id>/tasks/<k>/", How.FOLDER, "a task: all that a job has"),
    # machines
    Kind("nodes/", How.FOLDER, "all nodes that are registered"),
    Kind("nodes/<node>/", How.FOLDER, "a node"),
    Kind("nodes/<node>/state", How.TEXT, "whether it is heard of and takes work, one word"),
    Kind("nodes/<node>/status", How.TEXT, "what it has and what is in use, and why it takes no work, since when"),
    Kind("nodes/<node>/attrs", How.TEXT, "what its machine told of itself"),
    Kind("nodes/<node>/ctl", How.CONTROL, "commands of administrators, and of who owns it; reading it prints them"),
    Kind("nodes/<node>/instances/", How.FOLDER, "further machines that were started under its name"),
    Kind("nodes/<node>/instances/<k>/", How.FOLDER, "such a machine, from 2 on: all that a node has"),
    Kind("nodes/<node>/gpus/", How.FOLDER, "its GPUs, by their numbers there"),
    Kind("nodes/<node>/gpus/<i>/", How.FOLDER, "a GPU; of one that is divided, an instance: 0.2"),
    Kind("nodes/<node>/gpus/<i>/model", How.TEXT, "what it is"),
    Kind("nodes/<node>/gpus/<i>/alias", How.TEXT, "the short name of its model"),
    Kind("nodes/<node>/gpus/<i>/uuid", How.TEXT, "its name for ever"),
    Kind("nodes/<node>/gpus/<i>/memory", How.TEXT, "how much it has"),
    Kind("nodes/<node>/gpus/<i>/groups", How.TEXT, "for whom it is reserved; empty: for nobody"),
    Kind("nodes/<node>/gpus/<i>/job", How.TEXT, "the job that has it; empty: none"),
    Kind("nodes/<node>/gpus/<i>/health", How.TEXT, "ok, or what ails it: then no job gets it"),
    Kind("nodes/<node>/gpus/<i>/util", How.TEXT, "how busy it was last, in percent"),
    Kind("nodes/<node>/gpus/<i>/temperature", How.TEXT, "how warm it was last"),
    Kind("nodes/<node>/gpus/<i>/memory_used", How.TEXT, "how much of its memory was used last"),
    Kind("nodes/<node>/gpus/<i>/processes", How.TEXT, "who used it last, by their numbers on its machine"),
    Kind("clusters/", How.FOLDER, "all clusters of nodes"),
    Kind("clusters/<cluster>/", How.FOLDER, "a cluster, by its id"),
    Kind("clusters/<cluster>/name", How.TEXT, "its name"),
    Kind("clusters/<cluster>/default", How.TEXT, "whether nodes come into it that name none: yes or no"),
    Kind("clusters/<cluster>/owner", How.TEXT, "whose it is; empty: the datacenter's"),
    Kind("clusters/<cluster>/nodes", How.TEXT, "the nodes in it, a line each"),
    Kind("clusters/<cluster>/ctl", How.CONTROL, "commands of administrators, and of who owns it"),
    Kind("aliases/", How.FOLDER, "short names of GPUs"),
    Kind("aliases/<alias>", How.CONTROL, "the model that it stands for; administrators write it, and remove it"),
    # about oneself, and about all
    Kind("secrets/", How.FOLDER, "the names of your secrets; nobody else sees them"),
    Kind("secrets/<name>", How.WRITTEN, "a secret for your jobs: to be written and removed, never read"),
    Kind("me", How.CONTROL, "who you are, as facts; `autoshare GROUP…` is written to it"),
    Kind("quota", How.TEXT, "what you and your groups have and may have"),
    Kind("queue", How.TEXT, "the jobs that wait for nodes, in their order, each with its reason"),
    Kind("status", How.TEXT, "the cluster in one screen"),
    Kind("events", How.GROWS, "what happened to all jobs and nodes, a line each; the first says since when"),
    Kind("audit", How.GROWS, "for administrators: who did what, from where, and what came of it"),
)
