"""Where a number is from: commit, versions and hardware."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from metaser.runtime.parallel import available_cores

#: What the names of instruction sets begin with that decide which kernels compute: x86's, then Arm's.
DECIDING = ("avx", "fma", "amx", "asimd", "sve", "bf16", "i8mm")

PACKAGES = ("metaser", "torch", "torchaudio", "learn2learn", "numpy", "scipy", "scikit-learn", "pandas")


def provenance(repository: Path, device: str = "cpu") -> dict[str, Any]:
    """Commit, versions and hardware.

    Args:
        repository: A folder of the repository whose commit is meant.
        device: What the networks were computed on.
    """
    return {
        "commit": commit(repository),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "hardware": {**processor(), "system": platform.system(), "cores": available_cores(), "device": device},
    }  # fmt: skip


def commit(repository: Path) -> str:
    """The checked-out commit, with ``-dirty`` when tracked files outside results/ differ from it; empty outside git."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    try:
        head = git("rev-parse", "HEAD")
        changed = git("diff", "--quiet", "HEAD", "--", ":/", ":(top,exclude)results")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip() + ("-dirty" if changed.returncode == 1 else "") if head.returncode == 0 else ""


def processor() -> dict[str, Any]:
    """What computes, as far as numbers may depend on it.

    Returns:
        ``machine`` (the architecture), ``processor`` (its name, where the system tells it), ``instruction_sets`` (those that
        PyTorch's kernels choose by), ``aten`` and ``onednn`` (what PyTorch and oneDNN use of them, as they say and as they are
        told).
    """
    import torch

    name, flags = processor_facts()
    return {
        "machine": platform.machine(),
        "processor": name,
        "instruction_sets": [flag for flag in flags if flag.startswith(DECIDING)],
        "aten": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", "")
        or ("all" if torch.backends.mkldnn.is_available() else "none"),
    }


def processor_facts() -> tuple[str, list[str]]:
    """The processor's name and its sorted features, as Linux tells them; else the name alone."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    flags = found.get("flags") or found.get("Features") or ""
    return found.get("model name") or platform.processor(), sorted(set(flags.split()))


def described(facts: Mapping[str, Any]) -> str:
    """A processor with its instruction sets in one line."""
    sets = ", ".join(map(str, facts.get("instruction_sets", ())))
    return f"{facts.get('processor') or facts.get('machine')} ({sets or 'instruction sets not known'}; " \
           f"ATen {facts.get('aten')}, oneDNN {facts.get('onednn')})"  # fmt: skip
