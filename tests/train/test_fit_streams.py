"""``fit`` on data that is not in the device's memory: iterables, functions, iterators, and files."""

import itertools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_problems import REMAINDERS, assert_near, assert_same, example_loss, network, noisy_loss, regression

import jaxopt_lessons as jl
from jaxopt_lessons.train.programs import Compiled

DATA = regression(11)
ADAM = jl.adam(0.05)
STEP = jl.make_step(noisy_loss, ADAM)
STATE = jl.init_state(network(), ADAM, key=3)
VAL = regression(5, seed=1)


def batches(epoch=0):
    """The batches that ``fit`` makes of the arrays itself, without shuffling."""
    for first in range(0, 11, 4):
        yield tuple(x[first : first + 4] for x in DATA)


class Iterable:
    """Another pass each time; its length is known if it has one."""

    def __iter__(self):
        return batches()


class Sized(Iterable):
    def __len__(self):
        return 3


def fit(data, state=STATE, step=STEP, **options):
    return jl.fit(step, state, data, **options)


@pytest.mark.parametrize("data", [Iterable(), Sized(), batches, jl.Stream(Sized())], ids=lambda d: type(d).__name__)
def test_a_stream_is_the_run_on_its_arrays(data):
    threads = threading.active_count()
    in_memory = fit(DATA, batch_size=4, shuffle=False, epochs=3, val=VAL)
    streamed = fit(data, epochs=3, val=VAL)
    assert_near(streamed.state, in_memory.state)
    for name in in_memory.history:
        np.testing.assert_allclose(streamed.history[name], in_memory.history[name], 1e-5)
        assert_same(streamed.history.epochs(name), in_memory.history.epochs(name))
        assert_same(streamed.history.steps(name), in_memory.history.steps(name))
    assert streamed.reason == "finished"
    assert threading.active_count() == threads


@pytest.mark.parametrize("chunk_steps", [1, 2, 3])
def test_the_length_of_chunks_changes_nothing(chunk_steps):
    assert_same(fit(batches, epochs=3, chunk_steps=chunk_steps).state, fit(batches, epochs=3).state)


def test_no_epoch_is_begun_that_is_not_asked_for():
    """Where nobody knows how many batches an epoch has."""
    opened = []

    def noted(epoch):
        opened.append(epoch)
        return batches()

    fit(noted, epochs=2)
    assert opened == [0, 1]


def test_batches_may_be_single_arrays():
    x = DATA[0]
    step = jl.make_step(lambda params, x: jnp.sum((x @ params - 1) ** 2, axis=1), jl.sgd(0.1))
    state = jl.init_state(jnp.eye(x.shape[1]), step)
    streamed = jl.fit(step, state, lambda epoch: iter([x[:4], x[4:8], x[8:]]), epochs=2)
    in_memory = jl.fit(step, state, x, batch_size=4, shuffle=False, epochs=2)
    assert_near(streamed.state, in_memory.state)


def test_the_function_may_be_built_in():
    """One that does not tell its arguments."""
    epochs = [list(batches()), list(batches())[::-1]]
    assert_same(fit(epochs.__getitem__, epochs=2).state, fit(lambda epoch: epochs[epoch], epochs=2).state)


def test_a_stream_is_cut_where_observers_look_into_few_lengths(monkeypatch):
    lengths = []
    run = Compiled.run_given

    def spy(compiled, state, batches, masks, in_loop):
        lengths.append(len(batches[0]))
        return run(compiled, state, batches, masks, in_loop)

    monkeypatch.setattr(Compiled, "run_given", spy)
    alike = itertools.repeat(tuple(x[:4] for x in DATA))
    fit(alike, steps=30, observers=[jl.Lambda(lambda run: None, every=jl.Every(steps=10))])
    assert lengths == [1, 1, 8, 10, 10]


def test_a_second_run_goes_on_where_the_first_ended():
    """The cursor says how many batches were consumed, and the stream leaves them out."""
    first = fit(batches, steps=4)
    assert_same(fit(batches, state=first.state, steps=3).state, fit(batches, steps=7).state)


def test_a_second_run_compiles_nothing():
    fit(batches, epochs=2)
    assert fit(batches, epochs=2).compiles == 0
    assert fit(batches, step=STEP.replace(learning_rate=0.5), epochs=2).compiles == 0


def test_an_iterator_is_read_once_and_no_further_than_the_run():
    pulled = []

    def counted():
        for number in range(100):
            pulled.append(number)
            yield tuple(x[:4] for x in DATA)

    iterator = counted()
    result = fit(iterator, steps=6)
    assert (int(result.state.cursor), result.reason) == (6, "finished")
    assert pulled == list(range(6))
    assert int(fit(iterator, state=result.state, steps=4).state.cursor) == 10
    assert pulled == list(range(10))


def test_an_iterator_that_ends_ends_the_run():
    result = fit(batches(), epochs=1, val=VAL)
    assert (result.reason, int(result.state.cursor)) == ("finished", 3)
    assert result.history.steps("val_loss").tolist() == [3]
    result = fit(batches(), steps=5, val=VAL)
    assert (result.reason, int(result.state.cursor)) == ("the data ended 2 steps too early", 3)
    assert result.history.steps("val_loss").tolist() == [3]


def test_an_iterator_has_one_epoch():
    with pytest.raises(ValueError, match=r"^fit: an iterator is read once, not 2 times; say epochs=1 or steps"):
        fit(batches(), epochs=2)


@pytest.mark.parametrize("options", [{"batch_size": 4}, {"shuffle": False}, {"remainder": "drop"}])
def test_a_plan_for_arrays_beside_a_stream_is_refused(options):
    with pytest.raises(ValueError, match=r"^fit: the batches of a stream come as they are"):
        fit(batches, epochs=1, **options)


def test_no_epochs_read_nothing():
    def never(epoch):
        raise AssertionError("was read")
        yield

    assert_same(fit(never, epochs=0).state, STATE)
    assert_same(fit(never, steps=0).state, STATE)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("remainder", REMAINDERS)
def test_a_file_is_the_run_in_memory(remainder, shuffle, tmp_path):
    inputs = np.memmap(tmp_path / "inputs", np.float32, "w+", shape=DATA[0].shape)
    inputs[:] = DATA[0]
    options = {"batch_size": 4, "remainder": remainder, "shuffle": shuffle, "epochs": 3}
    from_file, in_memory = fit((inputs, DATA[1]), **options), fit(DATA, **options)
    assert_near(from_file.state, in_memory.state)
    np.testing.assert_allclose(from_file.history["loss"], in_memory.history["loss"], 1e-5)
    assert_same(from_file.history["weight"], in_memory.history["weight"])


def test_unequal_leading_sizes_are_named():
    def uneven(epoch):
        yield np.zeros((4, 3), np.float32), np.zeros(4, np.float32)
        yield np.zeros((4, 3), np.float32), np.zeros(3, np.float32)

    with pytest.raises(jl.InputError, match=r"batch 1 of epoch 0.*4 at '0', 3 at '1'"):
        fit(uneven, epochs=1, step=jl.make_step(example_loss, ADAM))


def test_a_loader_of_torch_is_a_stream():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(*map(torch.from_numpy, DATA))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    in_memory = fit(DATA, batch_size=4, shuffle=False, epochs=2)
    assert_near(fit(loader, epochs=2).state, in_memory.state)


def test_batches_may_be_on_the_device_already():
    def on_device(epoch):
        for batch in batches(epoch):
            yield jax.tree.map(jnp.asarray, batch)

    assert_same(fit(on_device, epochs=2).state, fit(batches, epochs=2).state)
