"""The speed of PPO, ours against TRL's last: `python benchmarks/ppo.py [SIZE …] [--repeats N] [--environments FOLDER]`.

Both sides do the same work (`workload.py`) on the same threads, each variant in a process of its own and each side in
an environment that is installed here once. All variants take a turn, then all again: A B C A B C. The first iteration
of each process warms it up. Beside every wall time stands how many times the floor of this machine that is. The table
is printed and written to `benchmarks/results/ppo.md`. The default takes about 20 minutes on 2 idle cores.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import floor
from stopwatch import PHASES
from tables import head, here, line, write
from workload import SIZES, Size, make

from rlhf_ray.meter import Meter

ROOT, HERE, PLACE = Path(__file__).parent.parent, Path(__file__).parent, Path("runs/speed")
TORCH = "torch==2.13.0"
PEER = [TORCH, "trl==1.12.0", "transformers==5.23.0", "psutil"]
ITERATIONS = {"tiny": 2, "distilgpt2": 1}  # measured ones of a process
REPEATS = 2
COLUMNS = (
    "size",
    "variant",
    "precision",
    "threads",
    "CPU s",
    "wall s",
    "times the floor",
    *(f"{phase}, wall s" for phase in PHASES),
    "episodes/s",
    "tokens/s",
    "generated tokens/s",
    "mean length",
    "peak GiB",
)


@dataclass(frozen=True)
class Variant:
    """One way to do the work: who does it, in which precision, on how many threads, and with which of our settings."""

    name: str
    precision: str
    threads: int
    words: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("rlhf_ray")


def precision_words(precision: str) -> tuple[str, ...]:
    """Our settings for a precision; float32 is the default of all of them."""
    sections = ("sampling", "scoring", "learning")
    return tuple(f"{section}.precision={precision}" for section in sections) if precision != "fp32" else ()


def ours(name: str, precision: str, threads: int, *words: str) -> Variant:
    return Variant(f"rlhf_ray, {name}", precision, threads, (*words, *precision_words(precision)))


def alone(precision: str, threads: int) -> Variant:
    return ours("one process", precision, threads, "cluster=none")


def on_ray(lead: int, precision: str) -> Variant:
    return ours(f"Ray, lead {lead}", precision, 2, "cluster.threads_each=2", f"ppo.lead={lead}")


def two_of_each(name: str, precision: str) -> Variant:
    """Two workers of every role with a thread each, which share out the episodes of an iteration."""
    roles, half = ("samplers", "scorers", "learners"), SIZES[name].episodes // 2
    shared = [f"cluster.{role}=2" for role in roles] + [f"{section}.rows={half}" for section in ("sampling", "scoring")]
    return ours("Ray, two of each", precision, 2, "cluster.threads_each=1", *shared)


def peer(precision: str, threads: int) -> Variant:
    return Variant("TRL" if precision == "fp32" else "TRL, forced", precision, threads)


def variants(name: str, precisions: Sequence[str]) -> list[Variant]:
    """What takes turns at a size. TRL's own setting for bf16 does nothing on a CPU: it is forced by hand there."""
    threads = (1, 2) if name == "tiny" else (2,)
    processes = [side(precision, count) for count in threads for side in (peer, alone) for precision in precisions]
    actors = [[on_ray(0, precision), on_ray(1, precision), two_of_each(name, precision)] for precision in precisions]
    return [*processes, *chain.from_iterable(actors)]


def install(folder: Path) -> dict[str, Path]:
    """The Python of each side, in an environment with the same versions but for TRL's."""
    pins = ROOT / "constraints.txt"
    folder.mkdir(parents=True, exist_ok=True)
    peer_pins = folder / "peer-constraints.txt"
    kept = [pin for pin in pins.read_text(encoding="utf-8").splitlines() if not pin.startswith("trl==")]
    peer_pins.write_text("\n".join(kept), encoding="utf-8")
    wanted = {"peer": [*PEER, "-c", str(peer_pins)], "ours": ["-e", str(ROOT), "-c", str(pins)]}
    return {side: _environment(folder / side, words) for side, words in wanted.items()}


def _environment(folder: Path, words: Sequence[str]) -> Path:
    """A virtual environment with these packages; one that is not whole is made again."""
    python, done = (folder / "bin" / "python").absolute(), folder / "installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)  # noqa: S603
        for packages in ([TORCH], words):  # torch first: a range elsewhere would bring another one
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)  # noqa: S603
        done.touch()
    return python


def work(variant: Variant, folder: Path, out: Path, iterations: int, python: Path) -> dict[str, Any]:
    """One process of a variant: what its stopwatch said, without the first iteration, and its peak memory."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    script = HERE / ("speed_ours.py" if variant.is_ours else "speed_trl.py")
    words = variant.words if variant.is_ours else (variant.precision, str(variant.threads))
    environment = os.environ | {"OMP_NUM_THREADS": str(variant.threads), "HF_HUB_OFFLINE": "1"}
    with Meter() as meter:
        command = [str(word) for word in (python, script, folder, out, iterations + 1, *words)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    said = json.loads((out / "measured.json").read_text(encoding="utf-8"))
    said = {name: said[name][1:] for name in ("iterations", "lengths")}
    return said | {"peak": meter.peak_bytes}


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median and range."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def row(name: str, size: Size, variant: Variant, runs: list[dict[str, Any]], rates: floor.Rates) -> str:
    iterations = [iteration for run in runs for iteration in run["iterations"]]
    tokens = [sum(lengths) for run in runs for lengths in run["lengths"]]
    wall, cpu = (
        [sum(phase[kind] for phase in iteration.values()) for iteration in iterations] for kind in ("wall", "cpu")
    )
    response = sum(tokens) / len(tokens) / size.episodes
    least = sum(rates.seconds(floor.iteration(size, variant.precision, size.mean_prompt, response)).values())
    asked = size.episodes * size.mean_prompt
    pairs = list(zip(tokens, wall, iterations, strict=True))
    return line(
        [
            name,
            variant.name,
            variant.precision,
            str(variant.threads),
            spread(cpu),
            spread(wall),
            f"{median(wall) / least:.1f}",
            *(spread([iteration[phase]["wall"] for iteration in iterations]) for phase in PHASES),
            spread([size.episodes / seconds for seconds in wall]),
            spread([(asked + spoken) / seconds for spoken, seconds, _ in pairs], ".0f"),
            spread([spoken / iteration["generate"]["wall"] for spoken, _, iteration in pairs], ".0f"),
            f"{response:.1f}",
            f"{max(run['peak'] for run in runs) / 2**30:.2f}",
        ]
    )


def compare(name: str, repeats: int, pythons: dict[str, Path]) -> tuple[list[str], list[str]]:
    """Rows of the table for one size, and what could not be run."""
    size, folder = SIZES[name], PLACE / name
    make(size, folder)
    multiplied = floor.precisions()
    kept = variants(name, multiplied)
    runs: dict[Variant, list[dict[str, Any]]] = {variant: [] for variant in kept}
    for turn in range(repeats):
        for variant in kept:
            print(f"{name}, turn {turn + 1} of {repeats}: {variant}", file=sys.stderr, flush=True)
            python = pythons["ours" if variant.is_ours else "peer"]
            runs[variant].append(work(variant, folder, PLACE / "out", ITERATIONS[name], python))
    machine = {
        how: floor.measure(size, *how) for how in sorted({(variant.precision, variant.threads) for variant in kept})
    }
    rows = [row(name, size, each, runs[each], machine[each.precision, each.threads]) for each in kept]
    notes = [] if "bf16" in multiplied else [f"{name}: without bf16, which this processor has no instructions for."]
    return rows, notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help=f"of {', '.join(SIZES)}; all where none is given")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns of every variant")
    parser.add_argument("--environments", type=Path, default=PLACE / "environments", help="where they are installed")
    words = parser.parse_args()
    if unknown := set(words.sizes) - set(SIZES):
        parser.error(f"SIZE: expected one of {', '.join(SIZES)}, got {', '.join(unknown)}")
    pythons = install(words.environments)
    rows, notes = [], []
    for name in words.sizes or SIZES:
        more, said = compare(name, words.repeats, pythons)
        rows, notes = rows + more, notes + said
    write("ppo", sys.argv[1:], here(), [*head(COLUMNS), *rows, "", *EXPLAINED, *notes])


EXPLAINED = (
    "Figures of an iteration: median (range) over all measured ones. CPU seconds are those of all processes together, "
    "peak memory too. In a run on Ray generation and scoring are one phase, called generation, and with lead 1 it is "
    "only what the learner had to wait for.",
)

if __name__ == "__main__":
    main()
