"""Gradient descent with noise that fades.

    p = p - learning_rate * (g + sqrt(eta / t^gamma) * normal)        t = 1, 2, ...

The noise helps a deep network out of a bad start. State: two ``count`` s, 0 bytes a parameter. How the random numbers
are made: see ``add_noise``. Not to be confused with the noise of mini-batches, which depends on the data, nor with
Langevin dynamics, whose noise is tied to the learning rate so that the weights sample a distribution.
"""

from typing import Any

from jaxopt_lessons import tree
from jaxopt_lessons.core import chain, gradient_transformation
from jaxopt_lessons.transforms.learning_rate import scale_by_learning_rate
from jaxopt_lessons.transforms.noise import add_noise
from jaxopt_lessons.types import NonNegativeOrSchedule


@gradient_transformation
def noisy_sgd(
    learning_rate: NonNegativeOrSchedule,
    eta: NonNegativeOrSchedule = 0.01,
    gamma: NonNegativeOrSchedule = 0.55,
    key: tree.Key = 0,
) -> Any:
    """Noisy SGD: gradient descent with Gaussian noise that fades.

    The variance of the noise is ``eta / t^gamma``.

    Equivalent to ``chain(add_noise(eta, gamma, key), scale_by_learning_rate(learning_rate))``.

    Args:
      learning_rate: a number in ``[0, inf)`` or a schedule.
      eta: variance of the noise at the first step, in ``[0, inf)``.
      gamma: how fast it falls, in ``[0, inf)``.
      key: where the random numbers start: a seed, which is static, or a key of ``jax.random``, which is a leaf.

    Use it: for very deep networks that do not begin to learn; a better initialization, or normalization, is the usual
      remedy.
    Paper: Neelakantan et al. 2015, arXiv 1511.06807.
    Lesson: none.
    """
    return chain(add_noise(eta, gamma, key), scale_by_learning_rate(learning_rate))
