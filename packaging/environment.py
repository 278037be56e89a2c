"""`make setup`: installs into .venv what is missing there or has changed, step by step. It deletes nothing.

Run by the Python that .venv is to have. Each step that succeeds is noted in .venv with a digest of what it was made from,
so that only a step whose digest differs is done again, and a setup that was stopped goes on with the step it was at.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE.parent / ".venv"
CONSTRAINTS = HERE / "constraints.txt"
LEARN2LEARN = HERE / "learn2learn"
LOG, DONE, READY = VENV / "setup.log", VENV / "setup.json", VENV / ".ready"
PYTHON = VENV / "bin" / "python"
REPORT_S = 20

#: What a step installs, in words; the files it depends on; and what pip is asked for.
STEPS = [
    ("torch and torchaudio (3 GB to fetch, 5 GB on disk)", [CONSTRAINTS], ["torch", "torchvision", "torchaudio"]),
    ("learn2learn, built from its source", sorted(LEARN2LEARN.glob("*.*")), [str(LEARN2LEARN)]),
    ("metaser with what it needs, tests and notebooks", [CONSTRAINTS, HERE.parent / "setup.cfg"], ["-e", ".[dev]"]),
]


def main() -> None:
    """Checks what is there, then does the steps that are to be done."""
    check()
    count = len(STEPS) + 1
    if not VENV.exists():
        print(f"make: 1 of {count}: an empty environment in {VENV.name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    done = json.loads(DONE.read_text()) if DONE.exists() else {}
    for number, (title, files, packages) in enumerate(STEPS, 2):
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if done.get(title) != digest:
            print(f"make: {number} of {count}: {title}", flush=True)
            install(packages)
            DONE.write_text(json.dumps({**done, title: digest}, indent=1))
            done[title] = digest
    if subprocess.run([PYTHON, "-m", "pip", "check"], stdout=subprocess.DEVNULL, check=False).returncode:
        print("make: packages in .venv that metaser does not need disagree (`.venv/bin/pip check` names them); "
              "`make clean setup` makes a new environment", file=sys.stderr)  # fmt: skip
    READY.touch()


def check() -> None:
    """What the steps need of this Python, this machine and a .venv that is there already."""
    python, version = Path(sys.executable).name, "{}.{}".format(*sys.version_info)
    if not all(map(importlib.util.find_spec, ("ensurepip", "venv"))):
        stop(f"{python} has no venv module; install it (Debian: python3-venv)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        stop(
            f"{python} has no Python.h, and learn2learn is built from source; install its headers (Debian: python3-dev)"
        )
    if not any(map(shutil.which, (os.environ.get("CC", "cc").split()[0], "gcc"))):
        stop("no C compiler, and learn2learn is built from source; install gcc or clang (Debian: build-essential)")
    if not VENV.exists() and not VENV.is_symlink():
        return
    code = "import sys, pip; print('{}.{}'.format(*sys.version_info), sys.prefix != sys.base_prefix)"
    try:
        theirs = subprocess.run(
            [PYTHON, "-c", code], capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        theirs = ["", "False"]
    if theirs[1] != "True":
        stop(".venv is there and is no virtual environment that works; move it away, or remove it with `make clean`")
    if theirs[0] != version:
        stop(f".venv has Python {theirs[0]}, and {python} is {version}; leave PYTHON out to use .venv as it is, "
             f"or remove it with `make clean`")  # fmt: skip


def install(packages: list[str]) -> None:
    """Has pip install packages; every 20 seconds a line says what it is at."""
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--constraint", CONSTRAINTS, *packages]
    start = time.monotonic()
    with LOG.open("w") as log:
        pip = subprocess.Popen(command, cwd=HERE.parent, stdout=log, stderr=subprocess.STDOUT)
    try:
        while pip.poll() is None:
            try:
                pip.wait(REPORT_S)
            except subprocess.TimeoutExpired:
                whole = LOG.read_text(errors="replace").split("\n")[:-1]
                line = next((line for line in reversed(whole) if "WARNING" not in line), "starting pip")
                print(f"make:   {time.monotonic() - start:.0f} s: {line.strip():.90}", flush=True)
    except KeyboardInterrupt:
        pip.wait()
        stop("stopped; the same command goes on with this step")
    if pip.returncode:
        print(LOG.read_text(errors="replace")[-2000:], file=sys.stderr)
        stop(f"pip could not install that; its whole output is in {LOG.relative_to(HERE.parent)}")


def stop(reason: str) -> None:
    """Ends with one line."""
    print(f"make: {reason}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
