"""Executes a notebook: `python -m tests.docs.notebook NOTEBOOK RESULT`. What is said on the side (stderr) is not kept.

It wants nbclient, nbformat and ipykernel, which are no part of the suite's environment.
"""

import sys

import nbformat
from nbclient import NotebookClient

DEADLINE_S = 900  # of a cell


def main(source: str, result: str) -> None:
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=DEADLINE_S, resources={"metadata": {"path": "."}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
