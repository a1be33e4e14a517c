"""Processes that save one checkpoint after another until they are killed: ``python saving_process.py DIRECTORY``.

For each line on its standard input the program forks a process, which is quicker than to start one, and prints its
number. That one saves, with one and the same number in all places of a checkpoint, and tells after each what it saved.
"""

import os
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxopt_lessons.train import checkpoint


def everywhere(number: int) -> dict[str, Any]:
    """Arguments of ``save`` with one number in every place."""
    tree = {"large": jnp.full(20_000, number), "small": jnp.int32(number), "host": np.full(3, number), "py": number}
    return {"tree": tree, "step": number, "about": {"number": number}, "records": {"number": np.full(100, number)}}


def save_for_ever(directory: str) -> None:
    number = checkpoint.latest(directory) or 0
    while True:
        number += 1
        checkpoint.save(directory, **everywhere(number), keep=2)
        print("saved", number, flush=True)


if __name__ == "__main__":
    checkpoint._orbax("save")  # what takes long to import; nothing here may start JAX's threads before the fork
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            save_for_ever(sys.argv[1])
        print("process", child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
