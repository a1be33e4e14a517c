"""The state of a user's iterator as plain JSON, without pickle, and back.

Numbers, strings, None, lists and dicts with strings for keys are themselves. The rest is a dict with one key:

    {"bytes": "..."}                                   base64
    {"tuple": [...]}
    {"dict": [[key, value], ...]}                      any other dict
    {"array": "...", "dtype": "<f4", "shape": [2, 3]}  a NumPy array, base64; a NumPy number, if the shape is None
    {"tensor": {"array": ...}}                         a PyTorch tensor (the state of its generators is one)
"""

import base64
import sys
from typing import Any

import numpy as np

from jaxopt_lessons import _data_checks

_TAGS = ({"bytes"}, {"tuple"}, {"dict"}, {"tensor"}, {"array", "dtype", "shape"})


def encode(value: Any, where: str = "") -> Any:
    """What ``json.dumps`` takes; raises for what would not come back as it was."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (bytes, bytearray):
        return {"bytes": _text(bytes(value))}
    if type(value) in (list, tuple):
        items = [encode(item, f"{where}/{i}") for i, item in enumerate(value)]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict):
        items = [[encode(key, where), encode(item, f"{where}/{key}")] for key, item in value.items()]
        plain = all(type(key) is str for key in value) and set(value) not in _TAGS
        return dict(items) if plain else {"dict": items}
    torch = sys.modules.get("torch")  # Who has a tensor has imported it.
    if torch is not None and isinstance(value, torch.Tensor):
        return {"tensor": encode(value.detach().cpu().numpy(), where)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        shape = list(value.shape) if isinstance(value, np.ndarray) else None
        return {"array": _text(value.tobytes()), "dtype": value.dtype.str, "shape": shape}
    _data_checks.state_not_json(type(value), where)


def decode(value: Any) -> Any:
    """What was encoded; raises for what nothing is encoded as."""
    try:
        return _decode(value)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        _data_checks.state_not_encoded(error)


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) not in _TAGS:
        return {key: _decode(item) for key, item in value.items()}
    if "bytes" in value:
        return base64.b64decode(value["bytes"], validate=True)
    if "tuple" in value:
        return tuple(_decode(value["tuple"]))
    if "dict" in value:
        return {_decode(key): _decode(item) for key, item in value["dict"]}
    if "tensor" in value:
        import torch

        return torch.from_numpy(_decode(value["tensor"]))
    data = np.frombuffer(base64.b64decode(value["array"], validate=True), np.dtype(value["dtype"]))
    return data[0] if value["shape"] is None else data.reshape(value["shape"]).copy()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
