"""The same training written with ``fit`` and with others' loops, for ``train_loop.py``.

Each function takes a ``Problem`` and returns a function that trains for ``EPOCHS`` epochs with Adam, in a new random
order each epoch, and waits until all is done.
"""

import itertools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl

LEARNING_RATE = 1e-3
EPOCHS = 3

Loop = Callable[[], None]


class Problem(NamedTuple):
    """A network, given by the widths of dense layers after perhaps two convolutions, data, and a batch size.

    Attributes:
      channels: of two convolutions 3 x 3, each followed by a maximum over 2 x 2; none for a dense network.
      widths: of the dense layers, the inputs and outputs included; a single output is a probability.
      x: inputs ``[examples, features]``, or ``[examples, 28, 28, 1]`` for convolutions.
      y: classes ``[examples]``.
    """

    channels: tuple[int, ...]
    widths: tuple[int, ...]
    x: np.ndarray
    y: np.ndarray
    batch_size: int

    @property
    def binary(self) -> bool:
        return self.widths[-1] == 1

    @property
    def steps_in_epoch(self) -> int:
        return len(self.x) // self.batch_size

    def weights(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)

        def layer(*shape: int) -> tuple[np.ndarray, np.ndarray]:
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            return (scale * rng.standard_normal(shape)).astype(np.float32), np.zeros(shape[-1], np.float32)

        kernels = [layer(3, 3, *pair) for pair in itertools.pairwise((1, *self.channels))] if self.channels else []
        return {"convolutions": kernels, "dense": [layer(*pair) for pair in itertools.pairwise(self.widths)]}

    def loss(self, params: Any, batch: Any) -> jax.Array:
        x, y = batch
        for kernel, bias in params["convolutions"]:
            layout = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias
            x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.reshape(len(x), -1)
        for w, b in params["dense"][:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params["dense"][-1]
        return self.loss_of_logits(x @ w + b, y)

    def loss_of_logits(self, logits: jax.Array, y: jax.Array) -> jax.Array:
        if self.binary:
            return optax.sigmoid_binary_cross_entropy(logits[:, 0], y.astype(jnp.float32)).mean()
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def fit(problem: Problem) -> Loop:
    tx = jl.adam(LEARNING_RATE)
    step = jl.make_step(problem.loss, tx)
    state = jl.init_state(problem.weights(), tx, key=0)
    batches = jl.minibatches((problem.x, problem.y), problem.batch_size, remainder="drop")

    def run() -> None:
        nonlocal state
        state = jl.fit(step, state, batches, epochs=EPOCHS, progress=False).state

    return run


def hand_written_scan(problem: Problem) -> Loop:
    """A whole epoch in one ``lax.scan``, with optax."""
    tx = optax.adam(LEARNING_RATE)
    steps, batch_size = problem.steps_in_epoch, problem.batch_size

    def epoch(params: Any, opt_state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        order = jax.random.permutation(key, len(x))[: steps * batch_size].reshape(steps, batch_size)

        def body(carry: Any, rows: jax.Array) -> Any:
            params, opt_state = carry
            loss, grads = jax.value_and_grad(problem.loss)(params, (x[rows], y[rows]))
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        (params, opt_state), losses = jax.lax.scan(body, (params, opt_state), order)
        return params, opt_state, losses

    compiled = jax.jit(epoch, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.asarray, problem.weights())
    opt_state, key = tx.init(params), jax.random.key(0)
    x, y = jnp.asarray(problem.x), jnp.asarray(problem.y)

    def run() -> None:
        nonlocal params, opt_state, key
        for _ in range(EPOCHS):
            key, used = jax.random.split(key)
            params, opt_state, losses = compiled(params, opt_state, used, x, y)
            np.asarray(losses)

    return run


def jitted_steps(problem: Problem, donate: tuple[int, ...] = ()) -> Loop:
    """A Python loop of jitted steps, with optax."""
    tx = optax.adam(LEARNING_RATE)

    def step(params: Any, opt_state: Any, batch: Any) -> Any:
        loss, grads = jax.value_and_grad(problem.loss)(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    compiled = jax.jit(step, donate_argnums=donate)
    params = jax.tree.map(jnp.asarray, problem.weights())
    opt_state = tx.init(params)
    rng = np.random.default_rng(0)

    def run() -> None:
        nonlocal params, opt_state
        for _ in range(EPOCHS):
            losses = []
            for rows in epoch_rows(problem, rng):
                params, opt_state, loss = compiled(params, opt_state, (problem.x[rows], problem.y[rows]))
                losses.append(loss)
            jax.block_until_ready((params, losses))

    return run


def donated_steps(problem: Problem) -> Loop:
    return jitted_steps(problem, donate=(0, 1))


def nnx_loop(problem: Problem) -> Loop:
    """The loop of the flax documentation: ``nnx.jit``, ``nnx.value_and_grad``, ``nnx.Optimizer``."""
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            channels = itertools.pairwise((1, *problem.channels)) if problem.channels else ()
            self.convolutions = nnx.List(nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in channels)
            self.dense = nnx.List(nnx.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(problem.widths))

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.convolutions:
                x = nnx.max_pool(nnx.relu(layer(x)), (2, 2), (2, 2))
            x = x.reshape(len(x), -1)
            for layer in self.dense[:-1]:
                x = nnx.relu(layer(x))
            return self.dense[-1](x)

    @nnx.jit
    def step(model: Any, optimizer: Any, batch: Any) -> jax.Array:
        def loss_fn(model: Any) -> jax.Array:
            return problem.loss_of_logits(model(batch[0]), batch[1])

        loss, grads = nnx.value_and_grad(loss_fn)(model)
        optimizer.update(model, grads)
        return loss

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)
    rng = np.random.default_rng(0)

    def run() -> None:
        for _ in range(EPOCHS):
            losses = [step(model, optimizer, (problem.x[rows], problem.y[rows])) for rows in epoch_rows(problem, rng)]
            jax.block_until_ready(losses)

    return run


def keras_fit(problem: Problem) -> Loop:
    """``model.fit`` of Keras on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers: list[Any] = [keras.Input(problem.x.shape[1:])]
    for channels in problem.channels:
        layers += [keras.layers.Conv2D(channels, 3, padding="same", activation="relu"), keras.layers.MaxPooling2D()]
    layers += [keras.layers.Flatten()] if problem.channels else []
    layers += [keras.layers.Dense(width, activation="relu") for width in problem.widths[1:-1]]
    model = keras.Sequential([*layers, keras.layers.Dense(problem.widths[-1])])
    losses = keras.losses
    loss = losses.BinaryCrossentropy if problem.binary else losses.SparseCategoricalCrossentropy
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss(from_logits=True))
    examples = problem.steps_in_epoch * problem.batch_size
    x, y = problem.x[:examples], problem.y[:examples].reshape(examples, -1)

    def run() -> None:
        model.fit(x, y, batch_size=problem.batch_size, epochs=EPOCHS, verbose=0)

    return run


def torch_loop(problem: Problem) -> Loop:
    """A PyTorch loop with fused Adam."""
    import torch

    layers: list[Any] = []
    if problem.channels:
        for i, o in itertools.pairwise((1, *problem.channels)):
            layers += [torch.nn.Conv2d(i, o, 3, padding="same"), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        layers.append(torch.nn.Flatten())
    for i, o in itertools.pairwise(problem.widths):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    x = np.moveaxis(problem.x, -1, 1) if problem.channels else problem.x
    x, y = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(problem.y).long()

    def epoch() -> None:
        order = torch.randperm(len(x))
        losses = []
        for begin in range(0, len(x) - problem.batch_size + 1, problem.batch_size):
            rows = order[begin : begin + problem.batch_size]
            optimizer.zero_grad(set_to_none=True)
            logits = model(x[rows])
            if problem.binary:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y[rows].float())
            else:
                loss = torch.nn.functional.cross_entropy(logits, y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).numpy()

    def run() -> None:
        for _ in range(EPOCHS):
            epoch()

    return run


def epoch_rows(problem: Problem, rng: np.random.Generator) -> Any:
    """The rows of each full batch, in a new order."""
    order = rng.permutation(len(problem.x))
    return [order[i * problem.batch_size : (i + 1) * problem.batch_size] for i in range(problem.steps_in_epoch)]


LOOPS: dict[str, Callable[[Problem], Loop]] = {
    "fit": fit,
    "hand-written scan": hand_written_scan,
    "jitted steps": jitted_steps,
    "jitted, donated steps": donated_steps,
    "flax nnx loop": nnx_loop,
    "Keras fit (JAX)": keras_fit,
    "torch, fused Adam": torch_loop,
}
