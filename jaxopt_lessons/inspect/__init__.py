"""Looking into optimizers before they run, and into the loss that they run on.

``jl.explain`` and ``jl.plot`` show what an optimizer does to which parameter, and its schedules. The functions here
measure a loss at given parameters: ``inspect.curvature`` the eigenvalues of its Hessian, ``inspect.noise_scale`` the
batch size up to which larger batches pay. All of them are called ``(loss_fn, params, data)``, with the loss function of
``make_step``.
"""

from jaxopt_lessons.inspect.curvature import Curvature, curvature
from jaxopt_lessons.inspect.noise_scale import NoiseScale, noise_scale

__all__ = ["Curvature", "NoiseScale", "curvature", "noise_scale"]
