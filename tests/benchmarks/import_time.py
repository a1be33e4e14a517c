"""How long ``import jaxopt_lessons`` takes beside ``import jax``, each in a fresh process, from compiled bytecode.

python tests/benchmarks/import_time.py [--rounds 11]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

MEASURE = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    # Bytecode of its own: where none is written, each process would compile the source of this package, not of JAX.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp()
    seconds: dict[str, list[float]] = {"jax": [], "jaxopt_lessons": []}
    for turn in range(options.rounds + 1):
        for module, times in seconds.items():
            command = [sys.executable, "-c", MEASURE.format(module)]
            time = float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
            if turn:  # The first round warms up the disk, and compiles.
                times.append(time)
    ratios = [b / a for a, b in zip(seconds["jax"], seconds["jaxopt_lessons"], strict=True)]
    for module, times in seconds.items():
        print(f"import {module}: {statistics.median(times) * 1e3:.0f} ms")
    print(f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f})")


if __name__ == "__main__":
    main()
