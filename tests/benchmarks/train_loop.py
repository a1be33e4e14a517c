"""How long an epoch of training takes: ``fit`` beside other ways to write the same loop.

    python tests/benchmarks/train_loop.py [--rounds 9] [--batch-sizes 16 32 128]

The peers are a hand-written ``lax.scan`` with optax, a Python loop of jitted optax steps (without and with donated
buffers) and, if PyTorch is installed, a PyTorch loop with fused Adam. All train the same network on the same random
data with Adam for a few epochs, in a new random order each epoch, in one process, one after the other in every round.
The table shows medians over the rounds and, as the figure to quote, the medians of the ratios within a round.
Compilation is not timed.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lessons as jl

LEARNING_RATE = 1e-3
EPOCHS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[16, 32, 128])
    parser.add_argument("--examples", type=int, default=10_000, help="size of the Fashion-MNIST-like set")
    options = parser.parse_args()

    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.devices()[0].platform}, {options.rounds} rounds")
    print(f"{'network':>16} {'batch':>5}  {'loop':<22} {'us/step':>9}  {'time / fit':>10}   min - max")
    for batch_size in options.batch_sizes:
        compare("784-128-128-10", (784, 128, 128, 10), options.examples, batch_size, options.rounds)
    compare("2-16-16-1", (2, 16, 16, 1), 20_000, 32, options.rounds)


def compare(name: str, sizes: tuple[int, ...], examples: int, batch_size: int, rounds: int) -> None:
    """Times one network and batch size with every loop and prints a row for each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((examples, sizes[0]), dtype=np.float32)
    classes = max(sizes[-1], 2)
    y = rng.integers(0, classes, examples).astype(np.int32)
    weights = [
        (rng.standard_normal((m, n), dtype=np.float32) / np.sqrt(m), np.zeros(n, np.float32))
        for m, n in itertools.pairwise(sizes)
    ]
    steps = EPOCHS * (examples // batch_size)
    loops: dict[str, Callable[[], None]] = {
        "fit": fit_loop(weights, x, y, batch_size),
        "hand-written scan": scan_loop(weights, x, y, batch_size),
        "jitted steps": python_loop(weights, x, y, batch_size, donate=()),
        "jitted, donated steps": python_loop(weights, x, y, batch_size, donate=(0, 1)),
    }
    try:
        loops["torch, fused Adam"] = torch_loop(weights, x, y, batch_size)
    except ImportError:
        print("(no PyTorch here)")
    for loop in loops.values():
        loop()
        loop()
    seconds: dict[str, list[float]] = {loop: [] for loop in loops}
    for turn in range(rounds):
        names = list(loops)
        for loop in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            loops[loop]()
            seconds[loop].append(time.perf_counter() - began)
    for loop, times in seconds.items():
        ratios = [a / b for a, b in zip(times, seconds["fit"], strict=True)]
        print(
            f"{name:>16} {batch_size:>5}  {loop:<22} {statistics.median(times) / steps * 1e6:9.1f}  "
            f"{statistics.median(ratios):10.2f}   {min(ratios):.2f} - {max(ratios):.2f}",
            flush=True,
        )


def apply(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def mean_loss(params, batch):
    x, y = batch
    logits = apply(params, x)
    if logits.shape[-1] == 1:
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], y.astype(jnp.float32)).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def fit_loop(weights, x, y, batch_size):
    tx = jl.adam(LEARNING_RATE)
    step = jl.make_step(mean_loss, tx)
    state = jl.init_state(weights, tx, key=0)
    batches = jl.minibatches((x, y), batch_size, remainder="drop")

    def run():
        nonlocal state
        state = jl.fit(step, state, batches, epochs=EPOCHS, progress=False).state

    return run


def scan_loop(weights, x, y, batch_size):
    tx = optax.adam(LEARNING_RATE)
    steps = len(x) // batch_size

    def epoch(params, opt_state, key, x, y):
        order = jax.random.permutation(key, len(x))[: steps * batch_size].reshape(steps, batch_size)

        def body(carry, rows):
            params, opt_state = carry
            loss, grads = jax.value_and_grad(mean_loss)(params, (x[rows], y[rows]))
            updates, opt_state = tx.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        (params, opt_state), losses = jax.lax.scan(body, (params, opt_state), order)
        return params, opt_state, losses

    compiled = jax.jit(epoch, donate_argnums=(0, 1))
    params = jax.tree.map(jnp.array, weights)
    opt_state = tx.init(params)
    x, y = jnp.asarray(x), jnp.asarray(y)
    key = jax.random.key(0)

    def run():
        nonlocal params, opt_state, key
        for _ in range(EPOCHS):
            key, used = jax.random.split(key)
            params, opt_state, losses = compiled(params, opt_state, used, x, y)
            np.asarray(losses)

    return run


def python_loop(weights, x, y, batch_size, donate):
    tx = optax.adam(LEARNING_RATE)

    def step(params, opt_state, batch):
        loss, grads = jax.value_and_grad(mean_loss)(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    compiled = jax.jit(step, donate_argnums=donate)
    params = jax.tree.map(jnp.array, weights)
    opt_state = tx.init(params)
    rng = np.random.default_rng(0)

    def run():
        nonlocal params, opt_state
        for _ in range(EPOCHS):
            order = rng.permutation(len(x))
            losses = []
            for begin in range(0, len(x) - batch_size + 1, batch_size):
                rows = order[begin : begin + batch_size]
                params, opt_state, loss = compiled(params, opt_state, (x[rows], y[rows]))
                losses.append(loss)
            jax.block_until_ready((params, losses))

    return run


def torch_loop(weights, x, y, batch_size):
    import torch

    layers = []
    for w, b in weights:
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    binary = weights[-1][0].shape[1] == 1
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    x, y = torch.from_numpy(x), torch.from_numpy(y).long()

    def epoch():
        order = torch.randperm(len(x))
        losses = []
        for begin in range(0, len(x) - batch_size + 1, batch_size):
            rows = order[begin : begin + batch_size]
            optimizer.zero_grad(set_to_none=True)
            logits = model(x[rows])
            if binary:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], y[rows].float())
            else:
                loss = torch.nn.functional.cross_entropy(logits, y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).numpy()

    def run():
        for _ in range(EPOCHS):
            epoch()

    return run


if __name__ == "__main__":
    main()
