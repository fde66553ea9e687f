"""What the owner of a node laid down, made ready before its daemon starts: the policy, the mounts, what stays closed.

Everything is looked at once here, so that a mistake ends the daemon with one line instead of failing its jobs.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.node.files import MOUNTS_DIR
from cli.node.options import CONFIG_FILE, Settings
from cli.node.policyfile import read_policy
from jobd.imagerules import told
from jobd.node.admission import Admitted, Rules, Tree
from jobd.node.hostmounts import HostMount, is_below
from jobd.node.hostpaths import HostPaths
from jobd.node.runtime import Runtime
from jobd.node.staging import Staging, shares_mounts
from jobd.wire import DOCKER
from pfs.errors import Kind, PfsError

RUN_DIR = Path("/run/pfs-node")

# what a sandbox shows of the machine, where no place can be made for anything else
_SHOWN_TO_SANDBOXES = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr")


@dataclass(frozen=True, slots=True)
class NodeRules:
    """The rules of this node, and what keeps sources where they are; None where that cannot be had."""

    rules: Rules
    staging: Staging | None

    def keep(self, runtimes: Mapping[str, Runtime], engine_url: str, warn: Callable[[str], None]) -> dict[str, Runtime]:
        """Return runtimes that keep the rules.

        Args:
            engine_url: where the container engine listens, if there is one.
            warn: shows a line to whoever watches the daemon.
        """
        return {name: self._kept(runtime, engine_url, warn) for name, runtime in runtimes.items()}

    def _kept(self, runtime: Runtime, engine_url: str, warn: Callable[[str], None]) -> Runtime:
        is_engine = runtime.name == DOCKER
        staging = self.staging if not is_engine or shares_mounts(engine_url) else None
        if staging is None and self.rules.mounts and os.geteuid() == 0:
            why = "it does not see this daemon's mounts" if self.staging else "this kernel cannot mount by descriptors"
            warn(
                f"{runtime.name} takes what --mount shows by its path ({why}): let nobody else rename "
                "directories on the way to it"
            )
        # bubblewrap lets neither devices nor other users' rights count in what it mounts; an engine would
        return Admitted(runtime, self.rules, staging, every=is_engine)

    def told(self) -> dict[str, float | int | str]:
        """Return what the policy lets jobs do, as a node tells of it (`jobd.wire`)."""
        policy = self.rules.policy
        most = {"mostCpus": policy.cpus, "mostMemory": policy.memory_bytes, "mostShm": policy.shm_bytes}
        known = {name: value for name, value in most.items() if value is not None}
        return {**known, **told(policy.image_rules), **({} if policy.sandbox else {"allowsSandbox": False})}

    def check_sandbox(self) -> None:
        """Refuse mounts for which no sandbox has a place.

        Raises:
            PfsError: INVALID, naming one.
        """
        for mount in self.rules.mounts:
            if is_below(mount.target, _SHOWN_TO_SANDBOXES) and not _has_place(mount):
                raise PfsError(
                    Kind.INVALID,
                    f"--mount {mount}: tasks in a sandbox see this machine's {mount.target.split('/')[1]}, where no "
                    f"place for it can be made; choose another one",
                )


def _has_place(mount: HostMount) -> bool:
    alike = os.path.isdir if os.path.isdir(mount.source) else os.path.isfile
    return not is_below(mount.target, ("/etc",)) and alike(mount.target)


def read_rules(settings: Settings, instance: str, tree: Tree | None) -> NodeRules:
    """Return the rules of this node.

    Args:
        instance: tells this daemon from others on the machine.
        tree: the one that jobs' volumes lie in, where others could change what lies there.

    Raises:
        PfsError: INVALID where something of it cannot be.
    """
    policy = read_policy(settings.policy)
    rules = Rules(
        settings.name or settings.node_id,
        policy,
        settings.mounts,
        HostPaths(_kept(settings), policy.mounts),
        tree,
    )
    with rules.paths.opened(rules.mounts):
        pass
    return NodeRules(rules, _staging(settings.state_dir, instance))


def _kept(settings: Settings) -> dict[str, str]:
    kept = {
        str(settings.state_dir): "what this daemon keeps of its tasks",
        str(RUN_DIR): "what this daemon keeps of its tasks",
        str(MOUNTS_DIR): "what this daemon mounts for its jobs",
    }
    if settings.docker_url.startswith("unix://"):
        kept[settings.docker_url.removeprefix("unix://")] = "the container engine's socket"
    if settings.data_root is not None:
        kept[str(settings.data_root)] = "the data root: jobs see of it what their owners may"
    if settings.policy is not None:
        kept[str(settings.policy)] = "the policy of this node"
    configured = Path(CONFIG_FILE).expanduser()
    if configured.exists():
        kept[str(configured)] = "the key of this node"
    return kept


def _staging(probe: Path, instance: str) -> Staging | None:
    """Return a place for mounts of this daemon's own, where it may have one.

    Args:
        probe: any directory.
    """
    if os.geteuid() != 0:
        return None
    try:
        staging = Staging(RUN_DIR, instance)
        descriptor = os.open(probe, os.O_PATH | os.O_CLOEXEC)
        try:
            with staging.shown("probe", [(descriptor, True)]):
                return staging
        finally:
            os.close(descriptor)
    except OSError:
        return None
