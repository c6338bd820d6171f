"""Environments of their own, which have the suite's packages without downloading them again."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def environment(folder: Path, *packages: str) -> str:
    """The Python of an environment with further packages, wheels or names. The clone itself is not in it.

    The suite's own packages are found behind those that are installed here; what their installation put beside them to
    find the clone is not read there.
    """
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "suite.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if packages:
        install = [python, "-m", "pip", "install", "--quiet", *packages]
        done = subprocess.run(install, env=alone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return python
