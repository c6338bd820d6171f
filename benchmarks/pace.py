"""What the limit of votes costs a vote: `python benchmarks/pace.py`.

Processes count in one file, 440 to 500 times a second each.
"""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from serve.pace import SharedPace

CALLS, PAUSE_S, PEOPLE = 2500, 0.002, 500


def count(path: Path, process: int) -> list[float]:
    """Seconds of each call."""
    pace, took = SharedPace(path, 60), []
    for number in range(CALLS):
        begin = time.perf_counter()
        pace.wait(f"key:team/{process}-{number % PEOPLE}")
        took.append(time.perf_counter() - begin)
        time.sleep(PAUSE_S)
    pace.close()
    return took


def main() -> None:
    for processes in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(processes) as pool:
            each = pool.map(count, [Path(folder) / "pace.sqlite"] * processes, range(processes))
            took = sorted(second for seconds in each for second in seconds)
        median, p99 = (1000 * took[int(len(took) * share)] for share in (0.5, 0.99))
        print(f"{processes} processes: median {median:.3f} ms, p99 {p99:.3f} ms, longest {1000 * took[-1]:.1f} ms")


if __name__ == "__main__":
    main()
