"""How long ``import jaxopt_lessons`` takes beside ``import jax``, each in a fresh process.

python tests/benchmarks/import_time.py [--rounds 11]
"""

import argparse
import statistics
import subprocess
import sys

MEASURE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    seconds: dict[str, list[float]] = {"jax": [], "jaxopt_lessons": []}
    for turn in range(options.rounds + 1):
        for module, times in seconds.items():
            command = [sys.executable, "-c", MEASURE.format(module)]
            time = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if turn:  # The first round warms up the disk.
                times.append(time)
    ratios = [b / a for a, b in zip(seconds["jax"], seconds["jaxopt_lessons"], strict=True)]
    for module, times in seconds.items():
        print(f"import {module}: {statistics.median(times) * 1e3:.0f} ms")
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})")


if __name__ == "__main__":
    main()
