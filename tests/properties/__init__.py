"""Laws that hold for any tree, any gradients and any optimizer put together at random, and how long they are tried.

``@law(short=8, long=300)`` makes two tests of a property with arguments drawn by hypothesis: one with few examples, the
same ones every time, that always runs, and one with many new examples, which runs with ``-m long``. A counterexample is
printed as it was found: to make it smaller would compile hundreds of programs. Read its optimizer and try it by hand.
"""

import functools

import pytest
from hypothesis import HealthCheck, Phase, given, settings

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=[Phase.explicit, Phase.generate],
    print_blob=False,
)
settings.register_profile("long", settings.get_profile("ci"), derandomize=False, print_blob=True)

FORMS = ["ci", pytest.param("long", marks=pytest.mark.long)]


def law(short, long, **strategies):
    """Tries a property on ``short`` examples, or ``long`` ones in the test that is marked so."""
    count = {"ci": short, "long": long}

    def decorate(test):
        def run(form):
            profile = settings(settings.get_profile(form), max_examples=count[form])
            profile(given(**strategies)(test))()

        functools.update_wrapper(run, test, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
        del run.__wrapped__  # pytest would read the arguments of the property.
        return pytest.mark.parametrize("form", FORMS)(run)

    return decorate
