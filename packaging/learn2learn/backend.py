"""Builds a wheel of learn2learn 0.2.0 from its source distribution on the package index.

`pip install learn2learn` fails on Python 3.11 and later: the source distribution holds C made by an old Cython. It also
asks for packages that only a few of its parts use: gsutil (which it never imports) and qpth (for MetaOptNet's SVM, which
imports it if it is there), and with them for boto, cvxpy, scs and numpy < 2. So the C is made from its .pyx here, those
two requirements are left out, and the version says that this was done: 0.2.0+metaser. Its code stays as published.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from setuptools import build_meta

REQUIREMENT = "learn2learn==0.2.0 --hash=sha256:69f1d7cb0d0a6be7a2c6ad8e83e2ebbe70fb05e51d61e45e63078b40c75ea419\n"
CHANGES = {"version=VERSION": "version=VERSION + '+metaser'", "'gsutil',": "", "'qpth>=0.0.15',": ""}  # of setup.py


def build_wheel(
    wheel_directory: str, config_settings: dict | None = None, metadata_directory: str | None = None
) -> str:
    """Fetch, check, change and build (PEP 517); returns the wheel's name."""
    wheels = Path(wheel_directory).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(_source(Path(folder)))
        setup = Path("setup.py").read_text()
        for published, changed in CHANGES.items():
            setup = setup.replace(published, changed)
        Path("setup.py").write_text(setup)
        return build_meta.build_wheel(str(wheels), {"--global-option": "build_ext"})  # makes the C from the .pyx


def build_sdist(sdist_directory: str, config_settings: dict | None = None) -> str:
    """There is none but learn2learn's own (PEP 517 wants the hook)."""
    raise RuntimeError("the source distribution of learn2learn is on the package index")


def _source(folder: Path) -> Path:
    """The unpacked source distribution, by pip with whatever index and cache it is configured for."""
    (folder / "requirements.txt").write_text(REQUIREMENT)
    download = ["download", "--no-deps", "--no-binary", "learn2learn", "--no-build-isolation", "--require-hashes"]
    subprocess.run(
        [sys.executable, "-m", "pip", *download, "--dest", folder, "--requirement", folder / "requirements.txt"],
        check=True,
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")
