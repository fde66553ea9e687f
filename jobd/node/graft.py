"""A program: mounts directories anew in the mount namespace of a task that runs.

When the client behind a task's files was killed, what the task sees of them is dead, and a new client's mount is seen
by new tasks only. A copy of it is taken here, where it is, and mounted there, where the dead one was.

    python -m jobd.node.graft NAMESPACE TARGET=SOURCE …     NAMESPACE, SOURCE: descriptors that were handed down

Changing the namespace concerns a whole process and needs one without other threads: hence a program of its own.
"""

import sys

from jobd.node.mounting import attach, clone_of, detach
from jobd.node.namespaces import MOUNTS, enter


def main(words: list[str]) -> None:
    """Do it."""
    namespace, *pairs = words
    clones = {}
    for pair in pairs:
        target, _, source = pair.rpartition("=")
        clones[target] = clone_of(int(source))
    enter(int(namespace), MOUNTS)
    # parents first: what is mounted below them goes with them, and comes back after them
    for target in sorted(clones):
        detach(target)
        attach(clones[target], target)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error.strerror}")
