"""What ``explain`` says: the text as it stands, its tables, and the trees it takes."""

import html.parser
import re
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lessons as jl


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


SHAPES = {
    "encoder": {"kernel": shape(784, 128), "bias": shape(128)},
    "head": {"kernel": shape(128, 10), "bias": shape(10)},
}
HALF = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), SHAPES)
PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}

CHAIN = """\
4 leaves, 101,770 parameters, 814,168 bytes of state, 8 a parameter

What happens to a gradient, in this order
  clip_by_global_norm             Scales all updates down together so that their global norm is at
                                  most max_norm.
    clip_by_global_norm.max_norm  1.0
  adam                            Adam: momentum and RMSprop in one, corrected for starting at zero.
    adam.learning_rate            warmup(steps=100, peak_value=0.001, from_zero=True)
    adam.b1                       0.9
    adam.b2                       0.99
    adam.eps                      1e-08
    adam.eps_root                 0.0
    made of
      scale_by_adam               Replaces the updates by Adam's direction: average over root mean
                                  square.
      scale_by_learning_rate      Multiplies the updates by minus the learning rate: u =
                                  -learning_rate(count) * g.
  clip                            Limits every entry to [-max_delta, max_delta]. NaN stays NaN.
    clip.max_delta                0.5

Leaves
  leaf            array             state bytes
  encoder/bias    float32[128]            1,024
  encoder/kernel  float32[784,128]      802,816
  head/bias       float32[10]                80
  head/kernel     float32[128,10]        10,240
  (together)                                  8

Use
  update(updates, state, params)
  params  The weights to evaluate are those that are trained.

Warnings
  -  clip comes after adam: it limits steps, learning rate included, and not gradients. Put it
     before.
"""

GROUPS = """\
4 leaves, 101,770 parameters (100,352 frozen), 11,360 bytes of state, 0.1116 a parameter

What happens to a gradient, in this order
  groups                             Trains groups of parameters differently.
    **/bias:
      **/bias.adamw                  AdamW: Adam with decoupled weight decay.
        **/bias.adamw.learning_rate  0.01
        **/bias.adamw.b1             0.9
        **/bias.adamw.b2             0.999
        **/bias.adamw.eps            1e-08
        **/bias.adamw.eps_root       0.0
        **/bias.adamw.weight_decay   0.0
        made of
          scale_by_adam              Replaces the updates by Adam's direction: average over root
                                     mean square.
          add_decayed_weights        Adds the decayed parameters to the updates: u = g +
                                     weight_decay * p.
          scale_by_learning_rate     Multiplies the updates by minus the learning rate: u =
                                     -learning_rate(count) * g.
    encoder/**:
      encoder/**.set_to_zero         Replaces the updates by zeros; what gradients they were made of
                                     is not calculated then.
    default:
      default.adamw                  AdamW: Adam with decoupled weight decay.
        default.adamw.learning_rate  0.01
        default.adamw.b1             0.9
        default.adamw.b2             0.999
        default.adamw.eps            1e-08
        default.adamw.eps_root       0.0
        default.adamw.weight_decay   0.0001
        made of the same as above

Leaves
  leaf            array             group                 state bytes
  encoder/bias    float32[128]      **/bias     no decay        1,024
  encoder/kernel  float32[784,128]  encoder/**  frozen              0
  head/bias       float32[10]       **/bias     no decay           80
  head/kernel     float32[128,10]   default     decays         10,240
  (together)                                                       16

Use
  update(updates, state, params)
  params  The weights to evaluate are those that are trained.

No warnings
"""

ACCUMULATION = """\
4 leaves, 101,770 parameters, 1,017,728 bytes of state, 10 a parameter

What happens to a gradient, in this order
  MultiSteps                     Takes one step of an optimizer for every k calls, from the mean of
                                 their gradients; the others return zeros.
    MultiSteps.every_k_schedule  4
    with_precision               Lets an optimizer train bfloat16 or float16 parameters without
                                 losing small updates, and in less memory.
      with_precision.weights     'split'
      made of
        split_master_weights     Lets an optimizer work on float32 weights made of the
                                 half-precision parameters and of the bits they lack.
      momo                       MoMo: momentum whose learning rate is only a limit.
        momo.learning_rate       0.1
        momo.beta                0.9
        momo.lower_bound         0.0
        momo.weight_decay        0.0

Leaves
  leaf            array              state bytes
  encoder/bias    bfloat16[128]            1,280
  encoder/kernel  bfloat16[784,128]    1,003,520
  head/bias       bfloat16[10]               100
  head/kernel     bfloat16[128,10]        12,800
  (together)                                  28

Use
  update(updates, state, params, value=...)  value= is needed by momo
  eval_params(tx, state, params)             The weights to evaluate; params are those that are
                                             trained.

No warnings
"""


@pytest.mark.parametrize(
    ("tx", "params", "expected"),
    [
        (
            jl.chain(jl.clip_by_global_norm(1.0), jl.adam(jl.warmup(100, 1e-3, from_zero=True), b2=0.99), jl.clip(0.5)),
            SHAPES,
            CHAIN,
        ),
        (jl.groups({"**/bias": {"weight_decay": 0.0}, "encoder/**": "freeze"}, default=jl.adamw(1e-2)), SHAPES, GROUPS),
        (jl.MultiSteps(jl.with_precision(jl.momo(0.1), weights="split"), 4), HALF, ACCUMULATION),
    ],
    ids=["chain", "groups", "accumulation"],
)
def test_text(tx, params, expected):
    found = jl.explain(tx, params)
    assert f"{found}\n" == expected
    assert repr(found) == str(found)
    assert max(map(len, str(found).splitlines())) <= 100


def names_of(found):
    return {line.left for line in found.sections[1].lines}


@pytest.mark.parametrize(
    "tx",
    [
        jl.chain(jl.clip(1.0), jl.clip(2.0), jl.clip(3.0)),
        jl.partition(
            {"a": jl.adamw(0.1), "b": jl.chain(jl.scale_by_lion(), jl.sgd(0.1))}, {"kernel": "a", "bias": "b"}
        ),
        jl.named_chain(("first", jl.scale(2.0)), ("second", jl.lamb(0.1))),
        jl.sam(jl.sgd(0.1), jl.sgd(0.2)),
        jl.lookahead(jl.schedule_free_adamw(0.1), 5, 0.5),
    ],
)
def test_hyperparameters_have_the_names_of_hyperparams(tx):
    assert set(jl.hyperparams(tx, tx.init(PARAMS))) <= names_of(jl.explain(tx, PARAMS))


def test_pairs_of_numbers_have_a_name_each():
    assert {"prodigy.betas.0", "prodigy.betas.1"} <= names_of(jl.explain(jl.prodigy(), PARAMS))


def test_settings_are_shown_where_they_are_not_as_by_default():
    assert "sgd.nesterov" in names_of(jl.explain(jl.sgd(0.1, 0.9, nesterov=True), PARAMS))
    assert "sgd.nesterov" not in names_of(jl.explain(jl.sgd(0.1, 0.9), PARAMS))


def rows_of(found):
    table = found.sections[2].table
    return {row[table.header.index("leaf")]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_leaves_and_what_becomes_of_them():
    tx = jl.chain(
        jl.selective_transform(
            jl.adamw(0.1, mask={"kernel": True, "bias": False, "head": True}),
            freeze_mask={"kernel": False, "bias": False, "head": True},
        )
    )
    rows = rows_of(jl.explain(tx, {**PARAMS, "head": jnp.ones(2), "count": jnp.zeros(3, jnp.int32)}))
    assert [rows[name][""] for name in ("kernel", "bias", "head", "count")] == [
        "decays",
        "no decay",
        "frozen",
        "not a parameter",
    ]
    assert [rows[name]["state bytes"] for name in ("kernel", "bias", "head", "count")] == ["48", "24", "0", "0"]


def test_gradients_that_nothing_makes_a_step_of():
    tx = jl.masked(jl.sgd(0.1), {"kernel": True, "bias": False}, unmasked="keep")
    rows = rows_of(jl.explain(tx, PARAMS))
    assert (rows["kernel"][""], rows["bias"][""]) == ("", "raw gradient")


def test_groups_in_groups():
    inner = jl.groups({"kernel": {"learning_rate": 0.2}}, default=jl.sgd(0.1))
    tx = jl.groups({"bias": "freeze"}, default=inner)
    rows = rows_of(jl.explain(tx, {**PARAMS, "scale": jnp.ones(1)}))
    assert [rows[name]["group"] for name in PARAMS] == ["default + kernel", "bias"]


def test_bytes_of_leaves_whose_paths_end_alike():
    params = {"a": {"w": shape(2)}, "w": shape(3), "count": shape(5), "mu": {"w": shape(7)}}
    rows = rows_of(jl.explain(jl.adam(0.1), params))
    assert [rows[name]["state bytes"] for name in ("a/w", "w", "count", "mu/w")] == ["16", "24", "40", "56"]


class Named(NamedTuple):
    count: jax.Array
    mu: jax.Array


def test_bytes_of_leaves_that_are_called_like_fields_of_states():
    rows = rows_of(jl.explain(jl.adam(0.1), Named(shape(2), shape(3))))
    assert [rows[name]["state bytes"] for name in ("count", "mu", "(together)")] == ["16", "24", "8"]


def test_many_leaves_are_put_together_where_they_are_treated_alike():
    layers = {f"layer_{i}": {"kernel": shape(4, 4), "bias": shape(4)} for i in range(20)}
    params = {"layers": layers, "head": {"kernel": shape(4, 2)}}
    tx = jl.groups({"layers/layer_7/**": {"learning_rate": 0.2}}, default=jl.adamw(0.1))
    rows = jl.explain(tx, params).sections[2].table.rows
    assert ("19 x", "layers/*/kernel", "float32[4,4]", "default", "decays", "2,432") in rows
    assert ("", "layers/layer_7/kernel", "float32[4,4]", "layers/layer_7/**", "decays", "128") in rows
    assert len(rows) == 6
    assert len(jl.explain(tx, params, every_leaf=True).sections[2].table.rows) == 42


def test_text_stays_narrow():
    long = {"a_very_long_name_" * 8: {"kernel_" * 10: shape(2, 3)}}
    tx = jl.groups({"a_very_long_name_*/**": jl.adamw(jl.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000))})
    text = str(jl.explain(tx, long))
    assert max(map(len, text.splitlines())) <= 100
    assert "warmup_cosine_decay_schedule(" in text


# -- in notebooks -----------------------------------------------------------------------------------------------------


class Texts(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_well_formed_and_escaped():
    evil = "<script>alert('x')</script>&amp;"
    found = jl.explain(jl.chain(jl.adam(0.1), jl.clip(1.0)), {evil: shape(2)})
    page = found._repr_html_()
    assert "<script" not in page
    parser = Texts()
    parser.feed(page)
    assert parser.open == []
    assert evil in parser.texts
    assert {"adam.b1", "0.9", "16", found.warnings[0]} <= set(parser.texts)


# -- what can be explained --------------------------------------------------------------------------------------------


def test_shapes_and_arrays_are_the_same():
    tx = jl.chain(jl.clip(1.0), jl.adafactor(0.1))
    assert jl.explain(tx, jax.eval_shape(lambda: PARAMS)) == jl.explain(tx, PARAMS)


def test_modules_of_equinox():
    model = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    found = jl.explain(jl.groups({"layers/0/**": "freeze"}, default=jl.adam(0.1)), model)
    rows = rows_of(found)
    assert found.parameters == 2 * 4 + 4 + 4 * 3 + 3
    assert rows["layers/0/weight"]["state bytes"] == "0"
    assert rows["layers/1/weight"]["state bytes"] == str(8 * 4 * 3)
    assert rows["activation"][""] == "not a parameter"


def test_states_of_flax():
    params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    rows = rows_of(jl.explain(jl.adam(0.1), params))
    assert {name: row["state bytes"] for name, row in rows.items()} == {"kernel": "48", "bias": "24", "(together)": "8"}


def test_a_single_array():
    rows = rows_of(jl.explain(jl.adam(0.1), shape(3)))
    assert {name: row["state bytes"] for name, row in rows.items()} == {"(the only leaf)": "24", "(together)": "8"}


def test_an_optimizer_of_optax():
    found = jl.explain(optax.adam(0.1), PARAMS)
    assert rows_of(found)["kernel"]["state bytes"] == "48"
    assert "A pair of functions of optax" in str(found)


def test_ones_own_without_a_docstring():
    @jl.gradient_transformation
    def mine(rate: float = 0.5):
        return lambda params: (), lambda updates, state, params=None: (updates, state)

    text = str(jl.explain(mine(), PARAMS))
    assert re.search(r"mine +\(it has no docstring\)\n +mine.rate +0.5", text)


def test_it_is_immutable():
    with pytest.raises(AttributeError):
        jl.explain(jl.sgd(0.1), PARAMS).warnings = ()


def test_what_does_not_fit_is_an_error():
    with pytest.raises(jl.InputError, match="explain > groups: "):
        jl.explain(jl.groups({"no_such/**": "freeze"}, default=jl.sgd(0.1)), PARAMS)
    with pytest.raises(TypeError, match="explain: tx must be a gradient transformation"):
        jl.explain("adam", PARAMS)
    with pytest.raises(ValueError, match="explain: steps must be at least 1; got 0"):
        jl.explain(jl.adam(0.1), PARAMS, steps=0)
    with pytest.raises(TypeError, match=r"explain: steps must be a whole number; got 10\.5"):
        jl.explain(jl.adam(0.1), PARAMS, steps=10.5)


def test_nothing_is_calculated():
    """The state of a model that no machine could hold."""
    found = jl.explain(jl.adam(0.1), {"w": shape(10**7, 10**7)})
    assert found.state_bytes == 8 * 10**14 + 8
    assert np.prod([found.parameters]) == 10**14


def test_a_partition_with_one_label_has_all_leaves():
    """One inside another finds its labels; and what stands in it is found to train them."""
    params = {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}
    one = jl.partition({"one": jl.sgd(0.1)}, {"w": "one", "b": "one"})
    for tx in (one, jl.partition({"one": one}, "one")):
        assert jl.explain(tx, params).warnings == jl.explain(jl.sgd(0.1), params).warnings
