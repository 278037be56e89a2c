"""A Slurm of one machine for the tests: slurmctld and slurmd in a folder of their own, on loopback, without accounting.

Debian's packages suffice: ``apt-get install --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins``.
They need not be installed. Unpacked (``apt-get download`` these and libmunge2, libhwloc15, liblua5.1-0; ``dpkg -x`` each into
one folder) they are found by METASER_SLURM_ROOT, which names that folder. No munge runs: ``auth/none``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Seconds that the cluster has to come up, and each of its daemons to end.
START_S, STOP_S = 60, 15

CONFIGURATION = """
ClusterName=metaser
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
# A job that is queued again starts after that many seconds; 5 is the least, 120 the default.
AuthInfo=cred_expire=5
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# No cgroups, no accounting, and a machine that may have less than is said here.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
# Seconds from SIGTERM to SIGKILL.
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=65536
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def find(name: str) -> str:
    """A program of Slurm's, unpacked or installed; Debian's daemons end in ``-wlm``.

    Raises:
        pytest.skip.Exception: if it is not there.
    """
    root = os.environ.get("METASER_SLURM_ROOT")
    places = [f"{root}/usr/bin", f"{root}/usr/sbin"] if root else ["/usr/bin", "/usr/sbin", os.environ.get("PATH", "")]
    for candidate in (name, f"{name}-wlm"):
        if found := shutil.which(candidate, path=os.pathsep.join(places)):
            return found
    pytest.skip(f"Slurm is not there: no {name} " + (f"below METASER_SLURM_ROOT={root}" if root else
                "(Debian: slurmctld, slurmd, slurm-client, slurm-wlm-basic-plugins)"))  # fmt: skip


def plugins(root: str) -> Path:
    """The folder of Slurm's plugins.

    Raises:
        pytest.skip.Exception: if ``auth/none`` is not among them.
    """
    for place in sorted(Path(root or "/", "usr/lib").rglob("auth_none.so")):
        return place.parent
    pytest.skip("this Slurm has no auth/none (Debian: slurm-wlm-basic-plugins)")


def tied(command: list[str]) -> list[str]:
    """A command that is killed with the process that starts it, however that ends (Linux)."""
    return ["setpriv", "--pdeathsig", "KILL", *command]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Starts a Slurm of one machine and stops it, however the block ends.

    Args:
        folder: For all that it writes.

    Yields:
        The variables with which its commands are found and find it.

    Raises:
        pytest.skip.Exception: if Slurm is not there.
    """
    root = os.environ.get("METASER_SLURM_ROOT", "")
    programs = {
        name: find(name) for name in ("slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "squeue", "scontrol")
    }
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, ports=free_ports(2), user=pwd.getpwuid(os.getuid()).pw_name,
                             plugins=plugins(root), folder=folder)
    )  # fmt: skip
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))},
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": os.pathsep.join([str(Path(programs["sbatch"]).parent), os.environ.get("PATH", "")]),
        "LD_LIBRARY_PATH": os.pathsep.join(
            [str(plugins(root)), *map(str, Path(root, "usr/lib").glob("*-linux-gnu") if root else ())]
            + [os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ]
        ),
    }
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            [programs["slurmctld"], "-D", "-c"],
            [programs["slurmd"], "-D", "-N", host, "-d", programs["slurmstepd"]],
        ):
            with open(folder / f"{Path(command[0]).name}.out", "wb") as output:
                daemons.append(
                    subprocess.Popen(tied(command), env=variables, stdout=output, stderr=output, start_new_session=True)
                )
        wait_until_up(folder, variables, daemons)
        yield variables
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            cancel_all(variables)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(STOP_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait(STOP_S)


def cancel_all(variables: dict[str, str]) -> None:
    """Cancels all jobs, and waits for their processes to end, which would outlive slurmd otherwise."""
    subprocess.run(["scancel", "--user", str(os.getuid())], env=variables, timeout=STOP_S, check=True)
    end = time.monotonic() + STOP_S
    while time.monotonic() < end and subprocess.run(["squeue", "--noheader"], env=variables, timeout=STOP_S, check=True,
                                                    capture_output=True).stdout:  # fmt: skip
        time.sleep(0.5)


def wait_until_up(folder: Path, variables: dict[str, str], daemons: list[subprocess.Popen[bytes]]) -> None:
    """Waits for the machine to take jobs.

    Raises:
        AssertionError: with what the daemons said, if it does not.
    """
    end, state = time.monotonic() + START_S, ""
    while time.monotonic() < end and all(daemon.poll() is None for daemon in daemons):
        with contextlib.suppress(subprocess.TimeoutExpired):
            state = subprocess.run(["sinfo", "--noheader", "--format=%t"], env=variables, timeout=START_S, text=True,
                                   capture_output=True, check=False).stdout.strip()  # fmt: skip
        if state == "idle":
            return
        time.sleep(0.2)
    said = "\n".join(path.read_text()[-3000:] for path in sorted(folder.glob("*.out")))
    raise AssertionError(f"Slurm did not come up (state {state!r}):\n{said}")
