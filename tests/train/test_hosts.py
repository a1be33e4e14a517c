"""Two processes on one machine, with two devices each, train as one process with four does."""

import json
import socket
import subprocess
import sys

import host_process
import jax
import numpy as np
import pytest

import jaxopt_lessons as jl


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def processes():
    """What each of two processes found."""
    command = [sys.executable, host_process.__file__, str(free_port()), "2"]
    running = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, errors) in zip(running, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def test_two_processes_have_the_numbers_of_one(processes):
    with jax.numpy_rank_promotion("allow"):
        expected = host_process.run_all()
    for found in processes:
        assert found["trained"].keys() == expected.keys()
        for run, leaves in expected.items():
            for name, numbers in leaves.items():
                np.testing.assert_allclose(found["trained"][run][name], numbers, 1e-5, 1e-5, err_msg=f"{run}: {name}")
    _, start = host_process.step_and_state()
    moved = [np.subtract(leaves["v"], start.params["v"]) for leaves in expected.values()]
    assert all(np.max(np.abs(difference)) > 1e-3 for difference in moved)


def test_all_stop_if_one_says_so(processes):
    assert [found["agree"] for found in processes] == [[False, True, True]] * 2


def test_one_is_the_main_process(processes):
    assert [found["main"] for found in processes] == [True, False]


def test_each_reads_its_rows_and_all_rows_of_a_batch_that_cannot_be_split(processes):
    assert [found["rows"] for found in processes] == [[[0, 4], [0, 6]], [[4, 8], [0, 6]]]


def test_a_placed_state_may_be_placed_again(processes):
    assert all(found["same key"] for found in processes)


def test_states_that_differ_are_refused_by_all(processes):
    says = "place_state: the state must be the same in every process, but differs at 'params/v'. Use one seed in all."
    assert [found["different"] for found in processes] == [says] * 2


def test_one_process_asks_nobody():
    assert jl.is_main()
    assert [jl.agree(False), jl.agree(True), jl.agree(np.True_)] == [False, True, True]
