"""The bad inputs that the suite tries, by number, with what a user must get.

The rule: an error at construction if it can be known then; an error at trace time that names the leaf's path if it is
about structure, shape or dtype; a finite and documented result, with a flag or a count, if it is about values. A test
says with ``@bad_input(5)``, or a case with ``marks=bad_input(5)``, which of them it tries, wherever it stands. Each is
to be tried for every optimizer, schedule, transformation and training function to which it applies.
"""

import pytest

INPUTS: dict[int, tuple[str, str]] = {
    # Hyperparameters
    1: ("a negative learning rate", "ValueError"),
    2: ("a hyperparameter that is NaN or infinite", "ValueError"),
    3: ("a hyperparameter that is text or a list", "TypeError"),
    4: ("a learning rate of 0", "the weights stay bit-equal"),
    5: ("a decay rate outside [0, 1)", "ValueError that names it"),
    6: ("a negative eps", "ValueError"),
    7: ("an eps of 0", "allowed; 0 / 0 is 0"),
    8: ("a negative weight decay", "ValueError"),
    9: ("Nesterov without momentum", "ValueError"),
    10: ("Rprop with factors on the wrong side of 1", "ValueError"),
    11: ("an accumulation over less than one step, or over half steps", "ValueError or TypeError"),
    12: ("clipping to a norm that is negative or NaN, or 0", "ValueError; zeros for 0"),
    13: ("a schedule of no steps, or with a warm-up longer than itself", "ValueError"),
    14: ("boundaries that are unsorted or the same", "ValueError"),
    15: ("a learning rate that is a traced array", "works"),
    16: ("a learning rate that is a whole number or a bool", "works; TypeError for a bool"),
    17: ("an unknown keyword", "TypeError with the near name"),
    # Trees
    18: ("an empty tree", "empty updates"),
    19: ("a leaf that is None", "stays None and has no state"),
    20: ("a gradient of None for an array", "an error with the path, unless asked for"),
    21: ("a key too many, or one that is missing", "an error with the key"),
    22: ("a dict for a FrozenDict, a list for a tuple", "an error with both types"),
    23: ("a gradient of another shape, one that would broadcast too", "an error with the path and both shapes"),
    24: ("a gradient of int, bool or float0", "an error with the leaf, and what to do"),
    25: ("integer parameters", "an error that says what to do"),
    26: ("a leaf that is a Python number", "converted once, traced once"),
    27: ("a NumPy leaf", "works"),
    28: ("arrays without entries", "updates without entries, norms of 0, no NaN"),
    29: ("0-d arrays, for factored and matrix rules too", "works"),
    30: ("matrices of 1 x n, n x 1 and 1 x 1", "finite"),
    31: ("kernels of convolutions and stacked layers", "works as documented"),
    32: ("the same array twice in the tree", "works, donated too"),
    33: ("a module that can be called as parameters or as a mask", "not taken for a function"),
    34: ("leaves that are shapes or typed keys", "init runs under eval_shape"),
    35: ("labels or masks with unknown, unused or wrong entries", "an error that names them"),
    36: ("update without the params it needs", "an error that says which part needs them"),
    37: ("the state of another optimizer or of another tree", "an error that names the difference"),
    38: ("update without an extra argument it needs", "an error with the call to write"),
    # Values
    39: ("a gradient of NaN", "as the policy says: raised, skipped and counted, or passed on"),
    40: ("an infinite gradient", "the same; no clip makes zeros or NaN of all others"),
    41: ("a huge finite gradient", "no infinite state; normal steps soon after"),
    42: ("a tiny gradient", "no NaN, no large step"),
    43: ("a gradient of exactly zero, at once and for ever", "an update of 0, in every dtype"),
    44: ("parameters that are all zero", "finite updates that get away from zero"),
    45: ("the same gradient for ever", "finite steps"),
    46: ("a loss of NaN or infinity, where the loss counts", "the step is rejected and flagged"),
    47: ("statistics that are singular or not positive", "finite; the old basis is kept and flagged"),
    48: ("a line search without an answer", "a status, and the best point is kept"),
    49: ("parameters of NaN", "reported by name in what training measures"),
    # Numbers
    50: ("a counter at 2^31 - 1", "stays there"),
    51: ("the power of a decay rate after 10^9 steps", "a correction of exactly 1"),
    52: ("moments of half precision", "float32 unless asked otherwise, and what is asked is finite"),
    53: ("x64 switched on", "float32 trees keep float32 states and updates"),
    54: ("complex parameters", "as a pair of real ones, or refused"),
}
"""Number: the input, and what a user gets."""


def bad_input(*numbers: int) -> pytest.MarkDecorator:
    """Marks a test, or a case of one, as trying these inputs."""
    unknown = [number for number in numbers if number not in INPUTS]
    if unknown or not numbers:
        raise ValueError(f"no such bad input: {unknown}")
    return pytest.mark.bad_input(*numbers)
