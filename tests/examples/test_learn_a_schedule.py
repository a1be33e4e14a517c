"""The example of hypergradients: it runs, checks its own claims, and draws its figure."""

import importlib.util
from pathlib import Path

import jax
import numpy as np

EXAMPLE = Path(__file__).parents[2] / "examples" / "learn_a_schedule.py"


def test_learn_a_schedule(tmp_path, monkeypatch, capsys):
    """Its assertions hold, and what it prints is what it found; the figure goes elsewhere."""
    script = tmp_path / "examples" / EXAMPLE.name
    script.parent.mkdir()
    script.write_text(EXAMPLE.read_text())
    specification = importlib.util.spec_from_file_location("learn_a_schedule", script)
    example = importlib.util.module_from_spec(specification)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        specification.loader.exec_module(example)
    printed = capsys.readouterr().out
    assert f"{float(example.learnt_loss):.4f} with the learnt schedule" in printed
    assert "figure: examples/figures/learn_a_schedule.png" in printed
    assert (script.parent / "figures" / "learn_a_schedule.png").read_bytes().startswith(b"\x89PNG")
    swept = np.asarray(example.swept)
    assert 0 < example.best < len(swept) - 1, "the best constant rate lies inside the sweep"
    assert example.learnt_loss < 0.5 * example.constant_loss
