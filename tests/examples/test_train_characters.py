"""The example of a character model: it learns more than counting does, goes on to the same bits, and writes."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from example_runs import EXAMPLES, jax_as_it_comes, load
from example_runs import train as train_example
from training_problems import assert_near, assert_same, distance

import jaxopt_lessons as jl

example = load("train_characters")

TEXT = example.read(EXAMPLES / "persuasion.txt")
SMALL = {"WIDTH": 32, "LAYERS": 1, "HEADS": 2, "CONTEXT": 32, "EPOCH": 60}
STEPS = 180


@pytest.fixture(scope="module", autouse=True)
def _settings_of_users():
    """A smaller model, and JAX as it comes."""
    with pytest.MonkeyPatch.context() as patch, jax_as_it_comes():
        for name, value in SMALL.items():
            patch.setattr(example, name, value)
        yield


def train(figure, *options):
    settings = ("--steps", str(STEPS), "--learning-rate", "0.01", "--length", "40")
    return train_example(example, figure, *settings, *options)


def sample_in(printed):
    """What the model wrote after the first characters of the validation text."""
    prompt = "".join(TEXT.characters[i] for i in TEXT.val[: SMALL["CONTEXT"]])
    return printed.split(prompt + "|")[1].split("\n\nfigure: ")[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("figures") / "characters.png")


# ---------------------------------------------------------------------------------------------------------------------
# Learning
# ---------------------------------------------------------------------------------------------------------------------


def test_it_learns_more_than_how_frequent_characters_are(run):
    bits = run.out.history["val_bits"]
    assert len(bits) == 3
    assert bits[-1] < example.baselines(TEXT)["unigram"] - 0.3, bits
    assert bits[-1] < bits[0] - 0.1
    assert run.figure.read_bytes().startswith(b"\x89PNG")


def test_control_without_a_learning_rate_nothing_is_learnt(run):
    out = train(run.figure, "--learning-rate", "1e-30").out
    np.testing.assert_allclose(out.history["val_bits"], math.log2(len(TEXT.characters)), atol=0.1)
    assert out.compiles == 0  # It is the program of the run before.


def test_a_stopped_run_goes_on_to_the_same_bits(run, tmp_path, monkeypatch):
    directory = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(example, "print_epoch", lambda run: run.stop("enough"))
        out, printed, _ = train(tmp_path / "one.png", "--run", directory)
    assert int(out.state.step) == 60
    assert "stopped after 60 steps: enough" in printed
    assert not (tmp_path / "one.png").exists()

    out, printed, _ = train(tmp_path / "two.png", "--run", directory)
    assert re.findall(r"(\d+) steps ", printed) == ["120", "180"]
    assert_same(out.state, run.out.state)
    for name in run.out.history:
        np.testing.assert_array_equal(out.history[name], run.out.history[name])
    assert (
        printed.split("programs compiled")[1].splitlines()[:-1]
        == run.printed.split("programs compiled")[1].splitlines()[:-1]
    )


def test_the_validation_is_that_of_the_average_over_all_characters(run):
    """By hand: one sum over the windows, with ``extras["ema"]`` and without dropout."""
    windows = example.in_a_row(TEXT.val)
    logits = example.model(run.out.state.extras["ema"], jnp.asarray(windows[:, :-1]))
    logs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), windows[:, 1:, None], axis=-1)
    np.testing.assert_allclose(-logs.mean() / math.log(2), run.out.history["val_bits"][-1], rtol=1e-5)
    with_trained = example.loss_fn(run.out.state.params, jnp.asarray(windows), None)[1]["bits"].mean()
    assert abs(with_trained - run.out.history["val_bits"][-1]) > 1e-3


def test_what_it_prints(run):
    out, printed, figure = run
    bits = example.baselines(TEXT) | {"model": out.history["val_bits"][-1]}
    assert "bits a character: " + ", ".join(f"{name} {value:.3f}" for name, value in bits.items()) in printed
    rows = np.array(re.findall(r"(\d+) steps   training (\S+)   validation (\S+) bits", printed), float)
    np.testing.assert_array_equal(rows[:, 0], [60, 120, 180])
    np.testing.assert_allclose(rows[:, 1], out.history["bits"].reshape(3, 60).mean(axis=1), atol=6e-4)
    np.testing.assert_allclose(rows[:, 2], out.history["val_bits"], atol=6e-4)
    assert len(sample_in(printed)) == 40
    assert printed.endswith(f"\nfigure: {figure}\n")


def test_precision_parts_and_average_are_those_of_the_options(tmp_path, monkeypatch):
    class BegunError(Exception):
        pass

    def fit(step, *arguments, **options):
        raise BegunError(step)

    monkeypatch.setattr(jl, "fit", fit)
    with pytest.raises(BegunError) as begun:
        train(tmp_path / "none.png", "--policy", "bfloat16", "--accumulate", "4")
    step = begun.value.args[0]
    assert step == jl.with_ema(
        jl.make_step(
            example.loss_fn,
            example.make_optimizer(0.01, STEPS),
            accumulate=4,
            policy="bfloat16",
            metrics=["gradient_norm"],
        ),
        decay=0.99,
    )


def test_half_precision(params):
    """Nearly the same loss and gradient, of parameters that stay in float32."""
    windows = jnp.asarray(example.windows(TEXT.train, 8, 0)(0)[0])
    full, half = (jl.make_step(example.loss_fn, jl.sgd(1.0), policy=policy) for policy in (None, "bfloat16"))
    (one, exact), (two, rounded) = (jax.jit(step)(jl.init_state(params, step), windows) for step in (full, half))
    assert {leaf.dtype for leaf in jax.tree.leaves(two.params)} == {jnp.dtype("float32")}
    difference = jl.global_norm(jax.tree.map(jnp.subtract, one.params, two.params))
    length = jl.global_norm(jax.tree.map(jnp.subtract, one.params, params))
    assert 1e-4 < difference / length < 0.15
    np.testing.assert_allclose(rounded["loss"], exact["loss"], rtol=0.01)


def test_the_learning_rate_warms_up_and_comes_down(run):
    rate = run.out.history["learning_rate"]
    np.testing.assert_allclose(rate[:18], np.arange(1, 19) * 0.01 / 18, rtol=1e-5)
    assert rate.argmax() in (17, 18)
    assert (np.diff(rate[18:]) < 0).all()
    assert 0.0005 <= rate[-1] < 0.00052


def test_only_matrices_decay():
    tx = example.make_optimizer(0.1, 10)
    params = example.init_model(jax.random.key(0), 5)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert (updates["norm"] == 0).all()
    assert (updates["blocks"][0]["norm1"] == 0).all()
    np.testing.assert_allclose(updates["embedding"], -0.1 * 0.1 * params["embedding"], rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def params(run):
    return run.out.state.params


def test_no_character_sees_those_after_it(params):
    text = jnp.asarray(TEXT.val[:32])[None]
    changed = text.at[0, 20].set((text[0, 20] + 1) % len(TEXT.characters))
    difference = np.abs(example.model(params, changed) - example.model(params, text)).max(axis=(0, 2))
    assert (difference[:20] == 0).all()
    assert (difference[20:] > 1e-4).all()


def test_dropout(params):
    x = jnp.ones((100, 100))
    dropped = np.asarray(example.dropout(x, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.9)}
    np.testing.assert_allclose(dropped.mean(), 1, atol=0.02)
    assert example.dropout(x, None) is x
    text = jnp.asarray(TEXT.val[:32])[None]
    one, again, other = (example.model(params, text, jax.random.key(seed)) for seed in (0, 0, 1))
    assert_same(one, again)
    assert distance(one, other) > 1e-2
    assert distance(one, example.model(params, text)) > 1e-2


def test_parts_of_a_batch_are_the_batch(params, monkeypatch):
    monkeypatch.setattr(example, "DROPOUT", 0.0)  # Parts have keys of their own.
    windows = jnp.asarray(example.windows(TEXT.train, 8, 0)(0)[0])
    whole, parts = (jl.make_step(example.loss_fn, jl.sgd(0.1), accumulate=n) for n in (None, 4))
    assert_near(*(jax.jit(step)(jl.init_state(params, step), windows)[0].params for step in (whole, parts)), 1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# The text
# ---------------------------------------------------------------------------------------------------------------------


def test_the_text_comes_back():
    numbers = np.concatenate([TEXT.train, TEXT.val])
    text = "".join(TEXT.characters[i] for i in numbers)
    assert text == (EXAMPLES / "persuasion.txt").read_text()
    assert len(TEXT.val) == math.ceil(len(text) / 10)


def test_windows_begin_anywhere_and_are_a_function_of_the_epoch():
    numbers = np.arange(1000)
    epoch = example.windows(numbers, 8, seed=1)
    assert_same(epoch(3), epoch(3))
    assert len(epoch(3)) == 60
    drawn = np.array([epoch(0), epoch(1)])
    assert drawn.shape == (2, 60, 8, 33)
    np.testing.assert_array_equal(drawn, drawn[..., :1] + np.arange(33))
    assert (drawn[0] != drawn[1]).mean() > 0.9
    assert drawn.max() > 980
    assert drawn.min() < 20
    assert (np.array(example.windows(numbers, 8, seed=2)(0)) != drawn[0]).mean() > 0.9


def test_validation_tells_each_character_once():
    numbers = np.arange(100)
    told = example.in_a_row(numbers)[:, 1:].ravel()
    np.testing.assert_array_equal(told, np.arange(1, 97))


def test_baselines():
    """Of a b a b a b | a a: two characters, counts 3 + 1 of each; after a: 0 + 1 times a, 3 + 1 times b."""
    text = example.Text("ab", np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1]))
    found = example.baselines(text)
    assert found["uniform"] == 1
    assert found["unigram"] == 1
    np.testing.assert_allclose(found["bigram"], (-math.log2(1 / 5) - math.log2(4 / 5)) / 2)


def test_baselines_of_the_text_fall():
    found = example.baselines(TEXT)
    assert found["uniform"] > found["unigram"] + 1 > found["bigram"] + 1.5


# ---------------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------------


def test_a_cold_sample_takes_the_most_probable_character(params):
    prompt = jnp.asarray(TEXT.val[:32])
    written = example.sample(params, prompt, jax.random.key(0), 1e-6, 10)
    seen = list(map(int, prompt))
    for character in map(int, written):
        assert character == int(example.model(params, jnp.array([seen[-32:]]))[0, -1].argmax())
        seen.append(character)


def test_the_temperature_of_a_sample(params):
    """First characters of many samples have the probabilities softmax(logits / temperature)."""
    prompt = jnp.asarray(TEXT.val[:32])
    draws = jax.vmap(lambda key: example.sample(params, prompt, key, 0.5, 1)[0])(
        jax.random.split(jax.random.key(1), 2000)
    )
    expected = np.asarray(jax.nn.softmax(example.model(params, prompt[None])[0, -1] / 0.5))
    shares = np.bincount(np.asarray(draws), minlength=len(expected)) / 2000
    np.testing.assert_allclose(shares, expected, atol=0.05)
    plain = np.asarray(jax.nn.softmax(example.model(params, prompt[None])[0, -1]))
    assert np.abs(plain - expected).max() > 0.06


def test_the_figure(run):
    bits = example.baselines(TEXT) | {"model": 3.25}
    curve, rate, norm = example.draw(run.out.history, bits).axes
    assert all(ax.get_xlabel() == "step" and ax.get_title() for ax in (curve, rate, norm))
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), run.out.history["bits"])
    np.testing.assert_array_equal(curve.lines[1].get_ydata(), run.out.history["val_bits"])
    np.testing.assert_array_equal(curve.lines[1].get_xdata(), [60, 120, 180])
    heights = [line.get_ydata()[0] for line in curve.lines[2:]]
    assert heights == [bits["uniform"], bits["unigram"], bits["bigram"]]
    assert "3.25 at the end" in curve.get_legend().get_texts()[1].get_text()
    low, high = curve.get_ylim()
    assert low <= 3.25
    assert high > bits["uniform"]


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------


def test_a_text_that_is_too_short(tmp_path):
    (tmp_path / "short.txt").write_text("to be or not to be, " * 16)  # A tenth of it is one window less a character.
    with pytest.raises(SystemExit, match="short.txt is too short: a tenth of it must be longer than 32"):
        train(tmp_path / "f.png", "--text", str(tmp_path / "short.txt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--figure no/such/directory/f.png", "--figure: there is no directory 'no/such/directory'"),
        ("--policy float8", "--policy: invalid choice: 'float8'"),
        ("--temperature 0", "--temperature: must be a finite number above 0; got '0'"),
        ("--accumulate 0", "--accumulate: must be a whole number in [1, 2^31); got '0'"),
    ],
)
def test_wrong_options_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit):
        example.main(arguments.split())
    assert f"argument {message}" in capsys.readouterr().err
