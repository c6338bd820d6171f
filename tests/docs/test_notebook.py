"""The notebook runs from its first cell to its last, and what is kept of it has its pictures."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.environments import environment

ROOT = Path(__file__).parent.parent.parent
# In the text of the notebook's file, whose whole run takes six CPU-minutes.
LESS = {
    r"\"steps\": 30": r"\"steps\": 2",
    r"\"statements\": 700": r"\"statements\": 100",
    r"\"samples\": 300": r"\"samples\": 60",
    r"\"heldout\": 100, \"probes\": 30": r"\"heldout\": 20, \"probes\": 4",
    r"\"heldout_prompts\": 60": r"\"heldout_prompts\": 10",
}
NOTEBOOK = ROOT / "notebooks" / "rca_walkthrough.ipynb"


def outputs(path: Path) -> list[dict]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [output for cell in notebook["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]


def pictures(path: Path) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(path))


def test_what_is_kept_was_executed_and_names_no_machine() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert pictures(NOTEBOOK) == 2
    assert not [output for output in outputs(NOTEBOOK) if output["output_type"] == "error"]
    assert "/home/" not in str(outputs(NOTEBOOK))
    assert "/tmp/" not in str(outputs(NOTEBOOK))  # noqa: S108


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    python = environment(tmp_path / "environment", "nbclient", "nbformat", "ipykernel")
    whole = NOTEBOOK.read_text(encoding="utf-8")
    for much, little in LESS.items():
        assert much in whole
        whole = whole.replace(much, little)
    (tmp_path / "before.ipynb").write_text(whole, encoding="utf-8")
    command = [python, "-m", "tests.docs.notebook", "before.ipynb", "after.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert pictures(tmp_path / "after.ipynb") == 2
