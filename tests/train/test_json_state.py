"""States of iterators come back from JSON as they were, types included."""

import json

import numpy as np
import pytest

import jaxopt_lessons as jl
from jaxopt_lessons.train.json_state import decode, encode

VALUES = [
    *(None, True, 3, 2**80, 0.1, "text", b"\x00\xff", (), [], {}),
    [1, (2, [3, (4,)]), {"a": (5,)}],
    {1: 2, (3, "x"): [4], None: 5},
    {"array": 1},
    {"bytes": "not base64"},
    {"tuple": [1]},
    {"dict": [[1, 2]]},
    {"tensor": 1},
    {"array": "?", "dtype": "?", "shape": "?"},
    (3, tuple(range(625)), None),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_plain_values_come_back(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3).T,
        np.zeros((0, 3)),
        np.array(3.5),
        np.float64(0.1),
        np.int64(7),
        np.bool_(True),
        np.array([1j], np.complex64),
        np.arange(3, dtype=">u4"),
    ],
    ids=repr,
)
def test_arrays_and_numbers_of_numpy_come_back(value):
    back = decode(json.loads(json.dumps({"here": encode(value)})))["here"]
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value, strict=True)
    if isinstance(back, np.ndarray):
        assert back.flags.writeable


def test_what_is_encoded_is_a_copy():
    state = {"numbers": [1, 2], "array": np.zeros(2)}
    encoded = encode(state)
    state["numbers"].append(3)
    state["array"][0] = 1
    assert decode(encoded)["numbers"] == [1, 2]
    assert decode(encoded)["array"].tolist() == [0, 0]


@pytest.mark.oracle
def test_tensors_come_back():
    torch = pytest.importorskip("torch")
    state = torch.Generator().manual_seed(3).get_state()
    back = decode(json.loads(json.dumps(encode({"rng": state}))))["rng"]
    assert torch.equal(back, state)
    assert back.dtype == state.dtype
    torch.Generator().set_state(back)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), lambda: 0, np.array([{}]), np.array(["a"])],
    ids=["set", "object", "function", "objects", "strings"],
)
def test_what_would_not_come_back_is_refused_by_path(value):
    kind = type(value).__name__
    with pytest.raises(jl.InputError, match=f"data: its state has a {kind} at /a/1, which cannot be saved"):
        encode({"a": [1, value]})
    with pytest.raises(jl.InputError, match=f"its state has a {kind} at the top"):
        encode(value)
