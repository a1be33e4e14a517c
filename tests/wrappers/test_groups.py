"""Parameter groups: who belongs where, what differs, and that each group is an optimizer of its own."""

import functools
import pickle
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from flax import nnx
from flax.core import FrozenDict

import jaxopt_lessons as jl

RNG = np.random.default_rng(0)


def leaf(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


PARAMS = {
    "encoder": {"dense": {"kernel": leaf(2, 3), "bias": leaf(3)}, "norm": {"scale": leaf(3)}},
    "head": {"kernel": leaf(3, 1), "bias": leaf(1)},
    "bias": leaf(1),
}
GRADS = [jax.tree.map(lambda p: leaf(*p.shape), PARAMS) for _ in range(4)]
DEFAULT = jl.adamw(0.1, weight_decay=0.3)
RULES = {"**/bias": {"weight_decay": 0.0}, "encoder/**": {"learning_rate": 0.01}}
PATHS = ["bias", "encoder/dense/bias", "encoder/dense/kernel", "encoder/norm/scale", "head/bias", "head/kernel"]


def by_path(tree):
    return {"/".join(keys): leaf for _, keys, leaf in jl.tree.named_leaves(tree)}


def run(tx, params=PARAMS, grads=GRADS):
    return runs.updates_of(tx, params, grads)


assert_close = functools.partial(runs.assert_close, rtol=1e-6, atol=1e-7)


# -- who belongs where ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("bias", ["bias"]),
        ("**/bias", ["bias", "encoder/dense/bias", "head/bias"]),
        ("*/bias", ["head/bias"]),
        ("encoder/**", ["encoder/dense/bias", "encoder/dense/kernel", "encoder/norm/scale"]),
        ("encoder/*/*", ["encoder/dense/bias", "encoder/dense/kernel", "encoder/norm/scale"]),
        ("encoder/**/bias", ["encoder/dense/bias"]),
        ("**/dense/**", ["encoder/dense/bias", "encoder/dense/kernel"]),
        ("**", PATHS),
        ("**/**", PATHS),
        ("*", ["bias"]),
        ("*/*", ["head/bias", "head/kernel"]),
        ("**/k*l", ["encoder/dense/kernel", "head/kernel"]),
        ("enc*/**", ["encoder/dense/bias", "encoder/dense/kernel", "encoder/norm/scale"]),
        ("head/kernel", ["head/kernel"]),
    ],
)
def test_patterns(pattern, expected):
    labels = by_path(jl.group_labels(jl.groups({pattern: "freeze"}, DEFAULT), PARAMS))
    assert [path for path in PATHS if labels[path] == pattern] == expected
    assert {labels[path] for path in PATHS if path not in expected} <= {"default"}


def test_other_characters_stand_for_themselves():
    params = {"a.b[0]": leaf(1), "aXb0": leaf(1), "a?": leaf(1)}
    labels = jl.group_labels(jl.groups({"a.b[0]": "freeze", "a?": {"eps": 0.1}}, DEFAULT), params)
    assert labels == {"a.b[0]": "a.b[0]", "aXb0": "default", "a?": "a?"}


def test_the_first_rule_that_fits_counts():
    labels = by_path(jl.group_labels(jl.groups(RULES, DEFAULT), PARAMS))
    assert labels["encoder/dense/bias"] == "**/bias"
    labels = by_path(jl.group_labels(jl.groups(dict(reversed(RULES.items())), DEFAULT), PARAMS))
    assert labels["encoder/dense/bias"] == "encoder/**"


def test_the_order_survives_jit_and_pickle():
    """A dict that passes through JAX comes back sorted; the rules do not."""
    backwards = jl.groups(dict(reversed(RULES.items())), DEFAULT)
    for tx in (jax.jit(lambda tx: tx)(backwards), pickle.loads(pickle.dumps(backwards)), backwards.replace(b1=0.5)):
        assert list(tx.arguments["rules"]) == ["encoder/**", "**/bias"]
        assert by_path(jl.group_labels(tx, PARAMS))["encoder/dense/bias"] == "encoder/**"


def is_matrix(path, leaf):
    return leaf.ndim == 2


def test_predicates():
    tx = jl.groups([(is_matrix, {"learning_rate": 1.0}), (lambda path, leaf: "norm" in path, "freeze")], DEFAULT)
    labels = by_path(jl.group_labels(tx, PARAMS))
    assert labels["head/kernel"] == "is_matrix"
    assert labels["encoder/norm/scale"].endswith("<lambda>")
    assert labels["bias"] == "default"
    two = jl.groups({lambda path, leaf: leaf.ndim == 2: "freeze", lambda path, leaf: path == "bias": "freeze"}, DEFAULT)
    assert len(set(by_path(jl.group_labels(two, PARAMS)).values())) == 3


@pytest.mark.parametrize(
    "labels",
    [
        {"encoder": "slow", "head": "default", "bias": "off"},
        lambda params: {"encoder": "slow", "head": "default", "bias": "off"},
        lambda path, leaf: {"encoder": "slow", "head": "default", "bias": "off"}[path.split("/")[0]],
    ],
)
def test_labels(labels):
    tx = jl.groups({"slow": {"learning_rate": 0.01}, "off": None}, DEFAULT, labels=labels)
    found = by_path(jl.group_labels(tx, PARAMS))
    assert {path: found[path] for path in ("encoder/norm/scale", "head/bias", "bias")} == {
        "encoder/norm/scale": "slow",
        "head/bias": "default",
        "bias": "off",
    }
    updates, _ = run(tx)
    assert not jnp.any(updates[-1]["bias"])


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


def nnx_params():
    return nnx.split(nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), nnx.Param)[1]


CONTAINERS = {
    "dict": {"layers": {"0": {"kernel": leaf(2, 3), "bias": leaf(3)}}},
    "NamedTuple": {"layers": [Layer(leaf(2, 3), leaf(3))]},
    "tuple": {"layers": ({"kernel": leaf(2, 3), "bias": leaf(3)},)},
    "FrozenDict": FrozenDict({"layers": {"0": {"kernel": leaf(2, 3), "bias": leaf(3)}}}),
    "flax nnx": nnx_params(),
    "equinox": eqx.filter(eqx.nn.MLP(2, 3, width_size=3, depth=0, key=jax.random.key(0)), eqx.is_inexact_array),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(kind):
    params = CONTAINERS[kind]
    tx = jl.groups({"layers/0/bias": {"learning_rate": 1.0}, "**/0/*": {"momentum": 0.5}}, jl.sgd(0.1))
    labels = jl.group_labels(tx, params)
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert sorted(jax.tree.leaves(labels)) == ["**/0/*", "layers/0/bias"]
    updates, _ = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    largest = sorted(float(jnp.max(jnp.abs(u))) for u in jax.tree.leaves(updates))
    np.testing.assert_allclose(largest, [0.1, 1.0], rtol=1e-6)


def test_a_model_with_leaves_that_are_not_trained():
    model = eqx.nn.MLP(2, 1, width_size=3, depth=1, key=jax.random.key(0))
    labels = jl.group_labels(jl.groups({"**/bias": "freeze"}, DEFAULT), model)
    assert labels.layers[0].bias == "**/bias"
    assert labels.activation is None


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "default", "message"),
    [
        (
            {"encodr/**": "freeze"},
            DEFAULT,
            r"'encodr/\*\*' fits no parameter. The rules are 'encodr/\*\*'; the parameters are 'bias', 'encoder/dense",
        ),
        (
            {"**/bias": "freeze", "head/bias": {"eps": 0.1}},
            DEFAULT,
            "'head/bias' fits only parameters that belong to earlier rules",
        ),
        (
            {"encoder/**": jl.sgd(0.1), "head/**": jl.sgd(0.1)},
            None,
            r"no rule fits 'bias', and there is no default. The rules are 'encoder/\*\*', 'head/\*\*'",
        ),
        ({lambda path, leaf: False: "freeze"}, DEFAULT, "<lambda>' fits no parameter"),
    ],
)
def test_rules_that_do_not_fit_are_named(rules, default, message):
    with pytest.raises(jl.InputError, match=f"groups: .*{message}"):
        jl.groups(rules, default).init(PARAMS)


def test_labels_that_do_not_fit_are_named():
    rules = {"slow": {"learning_rate": 0.01}}
    for labels, message in (
        ("sloow", "no transformation has the label 'sloow' and no leaf has the label 'slow'"),
        ({"encoder": "slow", "head": "default"}, "labels has nothing at 'bias'"),
    ):
        with pytest.raises(jl.InputError, match=f"groups: .*{message}"):
            jl.groups(rules, DEFAULT, labels=labels).init(PARAMS)
    with pytest.raises(jl.InputError, match="no transformation has the label 'default'"):
        jl.groups({"slow": jl.sgd(0.1)}, labels={"encoder": "slow", "head": "default", "bias": "slow"}).init(PARAMS)


@pytest.mark.parametrize(
    ("rules", "default", "error", "message"),
    [
        (
            {"a": {"weight_decya": 0.0}},
            DEFAULT,
            TypeError,
            "groups: 'a': adamw: no argument 'weight_decya'.*'weight_decay'",
        ),
        ({"a": {"learning_rate": -1.0}}, DEFAULT, ValueError, "groups: 'a': adamw: learning_rate must be"),
        ({"a": {"learning_rate": 1.0}}, None, ValueError, r"groups: 'a' replaces \['learning_rate'\], but there is no"),
        ({"a": 0.1}, DEFAULT, TypeError, r"groups: rules\['a'\] must be a gradient transformation"),
        ({"a": "frozen"}, DEFAULT, TypeError, r"groups: rules\['a'\] must be a gradient transformation"),
        ([("a", {}, 3)], DEFAULT, TypeError, "rules must be a mapping or a list of pairs"),
        ([("a", {}), ("a", "freeze")], DEFAULT, ValueError, "the rule 'a' is there twice"),
        ({3: "freeze"}, DEFAULT, ValueError, "a rule is a pattern or a function"),
        ({"a": "freeze"}, 3, TypeError, "groups: default must be a gradient transformation"),
    ],
)
def test_bad_arguments(rules, default, error, message):
    with pytest.raises(error, match=message):
        jl.groups(rules, default)


def test_group_labels_needs_groups():
    for tx in (DEFAULT, jl.chain(jl.groups(RULES, DEFAULT), jl.partition({"a": DEFAULT}, "a"))):
        with pytest.raises(ValueError, match="group_labels: there must be one groups or partition"):
            jl.group_labels(tx, PARAMS)
    mask = {"encoder": True, "head": False, "bias": False}
    inside = jl.chain(jl.clip(1.0), jl.masked(jl.groups(RULES, DEFAULT), mask, unmasked="zero"))
    assert by_path(jl.group_labels(inside, PARAMS)) == {
        "encoder/dense/bias": "**/bias",
        "encoder/dense/kernel": "encoder/**",
        "encoder/norm/scale": "encoder/**",
    }
    partition = jl.partition({"a": jl.sgd(0.1), "b": jl.sgd(0.2)}, {"encoder": "a", "head": "b", "bias": "a"})
    assert by_path(jl.group_labels(partition, PARAMS))["head/bias"] == "b"


# -- what differs -----------------------------------------------------------------------------------------------------


def test_groups_are_separate_optimizers():
    rules = {**RULES, "head/kernel": jl.sgd(0.5, momentum=0.9), "head/**": "freeze"}
    with pytest.raises(jl.InputError, match="'head/\\*\\*' fits only parameters that belong"):
        jl.groups(rules, DEFAULT).init(PARAMS)
    rules = {"**/bias": {"weight_decay": 0.0}, "encoder/norm/*": "freeze", "head/kernel": jl.sgd(0.5, momentum=0.9)}
    tx = jl.groups(rules, DEFAULT)
    updates, state = run(tx)
    separate = {
        "**/bias": jl.adamw(0.1, weight_decay=0.0),
        "encoder/norm/*": jl.set_to_zero(),
        "head/kernel": jl.sgd(0.5, momentum=0.9),
        "default": DEFAULT,
    }
    labels = by_path(jl.group_labels(tx, PARAMS))
    for label, alone in separate.items():
        part = lambda tree, label=label: {path: x for path, x in by_path(tree).items() if labels[path] == label}
        expected, _ = run(alone, part(PARAMS), list(map(part, GRADS)))
        assert_close(list(map(part, updates)), expected)
    assert state.inner_states["encoder/norm/*"] == jl.EmptyState()


def test_one_rule_for_all_is_the_optimizer():
    for tx in (jl.groups({}, DEFAULT), jl.groups({"**": {}}, DEFAULT), jl.groups({"**": DEFAULT})):
        assert_close(run(tx)[0], run(DEFAULT)[0])


def test_norms_are_those_of_the_group():
    tx = jl.groups({"head/**": {"max_norm": 2.0}}, jl.clip_by_global_norm(1.0))
    updates, _ = tx.update(jax.tree.map(lambda p: 100 * p, PARAMS), tx.init(PARAMS), PARAMS)
    rest = {**updates, "head": None}
    assert float(jl.global_norm(updates["head"])) == pytest.approx(2.0, rel=1e-6)
    assert float(jl.global_norm(rest)) == pytest.approx(1.0, rel=1e-6)


def test_overrides_reach_into_chains_and_take_schedules():
    schedule = jl.linear_schedule(1.0, 0.0, 4)
    tx = jl.groups({"head/**": {"learning_rate": schedule}}, jl.chain(jl.clip(1e3), jl.sgd(0.1)))
    updates, _ = run(tx)
    for count, (u, g) in enumerate(zip(updates, GRADS, strict=True)):
        np.testing.assert_allclose(u["head"]["bias"], -float(schedule(count)) * g["head"]["bias"], rtol=1e-5)
        np.testing.assert_allclose(u["bias"], -0.1 * g["bias"], rtol=1e-5)


def test_settings_are_overridden_too():
    tx = jl.groups({"bias": {"nesterov": True, "momentum": 0.5}}, jl.sgd(0.1))
    updates, _ = run(tx)
    assert_close(
        [u["bias"] for u in updates], run(jl.sgd(0.1, 0.5, True), PARAMS["bias"], [g["bias"] for g in GRADS])[0]
    )


# -- groups are values ------------------------------------------------------------------------------------------------


def test_another_number_of_a_group_compiles_nothing():
    traces = []

    @jax.jit
    def step(tx, grads, state):
        traces.append(tx)
        return tx.update(grads, state, PARAMS)

    tx = jl.groups(RULES, DEFAULT)
    state = tx.init(PARAMS)
    first, _ = step(tx, GRADS[0], state)
    for other in (
        jl.groups({**RULES, "encoder/**": {"learning_rate": 0.02}}, DEFAULT),
        tx.replace(rules={**RULES, "encoder/**": {"learning_rate": 0.02}}),
    ):
        second, _ = step(other, GRADS[0], state)
        ratio = second["encoder"]["dense"]["kernel"] / first["encoder"]["dense"]["kernel"]
        np.testing.assert_allclose(ratio, 2 * np.ones((2, 3)), rtol=1e-5)
        np.testing.assert_allclose(second["head"]["kernel"], first["head"]["kernel"])
    assert len(traces) == 1


def test_what_is_printed():
    tx = jl.groups({"b": {"momentum": 0.5}, "a/**": None, is_matrix: jl.sgd(0.5)}, jl.sgd(0.1))
    assert repr(tx) == (
        "groups(rules={'b': {'momentum': 0.5}, 'a/**': 'freeze', is_matrix: sgd(learning_rate=0.5)}, "
        "default=sgd(learning_rate=0.1))"
    )


def test_replace_changes_all_groups_that_do_not_say_otherwise():
    tx = jl.groups({"**/bias": {"weight_decay": 0.0}, "encoder/**": {"learning_rate": 0.01}}, DEFAULT)
    changed = tx.replace(learning_rate=0.2)
    assert changed == jl.groups(RULES, jl.adamw(0.2, weight_decay=0.3))
    before, after = run(tx)[0][0], run(changed)[0][0]
    np.testing.assert_allclose(after["bias"] / before["bias"], [2.0], rtol=1e-5)
    np.testing.assert_allclose(after["encoder"]["norm"]["scale"], before["encoder"]["norm"]["scale"])
    inside = jl.groups({"head/**": jl.sgd(0.1, momentum=0.9)}, DEFAULT)
    assert inside.replace(momentum=0.5) == jl.groups({"head/**": jl.sgd(0.1, momentum=0.5)}, DEFAULT)
    with pytest.raises(ValueError, match="'learning_rate' is ambiguous, it belongs to groups > sgd, groups > adamw"):
        inside.replace(learning_rate=0.5)


def test_values():
    tx = jl.groups(RULES, DEFAULT)
    assert tx == jl.groups(list(RULES.items()), DEFAULT)
    assert hash(tx) == hash(jl.groups(RULES, DEFAULT))
    assert tx != jl.groups(dict(reversed(RULES.items())), DEFAULT)
    assert tx != jl.groups({**RULES, "encoder/**": {"learning_rate": 0.02}}, DEFAULT)
    assert eval(repr(tx), vars(jl)) == tx
    assert "groups(rules={'**/bias': {'weight_decay': 0.0}, 'encoder/**': {'learning_rate': 0.01}}, default=adamw(" in (
        repr(tx)
    )
    rules = {"**/bias": {"weight_decay": 0.0}}
    kept = jl.groups(rules, DEFAULT)
    rules["**/bias"]["weight_decay"] = 1.0
    assert kept.arguments["rules"] == {"**/bias": {"weight_decay": 0.0}}


def test_vmap_over_the_rate_of_a_group():
    rates = jnp.array([0.1, 0.2, 0.4])

    def first_step(rate):
        tx = jl.groups({"bias": {"learning_rate": rate}}, jl.sgd(0.1))
        return tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0]

    updates = jax.vmap(first_step)(rates)
    np.testing.assert_allclose(updates["bias"], -np.outer(rates, PARAMS["bias"]), rtol=1e-6)
    stacked = jax.vmap(lambda rate: jl.groups({"bias": {"learning_rate": rate}}, jl.sgd(0.1)))(rates)
    again = jax.vmap(lambda tx: tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0])(stacked)
    assert_close(again, updates)


def test_gradient_with_respect_to_the_rate_of_a_group():
    tx = jl.groups({"bias": {"learning_rate": 0.1}}, jl.sgd(0.1))

    def loss(tx):
        updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
        return jnp.sum(jl.apply_updates(PARAMS, updates)["bias"] ** 2)

    derivative = jax.grad(loss)(tx)
    p = float(PARAMS["bias"][0])
    assert float(derivative.arguments["rules"]["bias"]["learning_rate"]) == pytest.approx(-2 * 0.9 * p**2, rel=1e-5)
    assert float(derivative.arguments["default"].arguments["learning_rate"]) == 0.0


def test_in_a_compiled_loop_and_in_fit():
    tx = jl.groups({"b": {"learning_rate": 0.5}, "frozen": "freeze"}, jl.sgd(0.1, momentum=0.5))
    params = {"w": jnp.zeros(2), "b": jnp.zeros(()), "frozen": jnp.ones(())}
    x = jnp.asarray(RNG.standard_normal((64, 2)), jnp.float32)
    y = x @ jnp.array([1.0, -2.0]) + 3.0

    def loss_fn(params, batch):
        x, y = batch
        return (x @ params["w"] + params["frozen"] * params["b"] - y) ** 2

    step = jl.make_step(loss_fn, tx)
    out = jl.fit(step, jl.init_state(params, tx), (x, y), steps=200, batch_size=16, progress=False)
    np.testing.assert_allclose(out.state.params["w"], [1.0, -2.0], atol=1e-3)
    np.testing.assert_allclose(out.state.params["b"], 3.0, atol=1e-3)
    assert float(out.state.params["frozen"]) == 1.0


def test_the_weights_to_evaluate_are_put_together():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    average = jl.swa_params(jl.sgd(0.5))
    tx = jl.groups({"a": average, "b": jl.sgd(1.0)})
    state = tx.init(params)
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        params = jl.apply_updates(params, updates)
    evaluated = jl.eval_params(tx, state, params)
    np.testing.assert_array_equal(evaluated["b"], params["b"])
    alone = average.init(jnp.ones(2))
    p = jnp.ones(2)
    for _ in range(3):
        u, alone = average.update(p, alone, p)
        p = jl.apply_updates(p, u)
    np.testing.assert_allclose(evaluated["a"], jl.eval_params(average, alone, p))
    assert not np.allclose(evaluated["a"], params["a"])


def test_states_by_name():
    tx = jl.groups(RULES, DEFAULT)
    _, state = run(tx)
    assert_close(jl.load_state_dict(tx, PARAMS, jl.state_dict(tx, state)), state)
