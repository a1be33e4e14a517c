"""Looking into optimizers before they run, into a run, and into the loss that they run on.

``jl.explain`` and ``jl.plot`` show what an optimizer does to which parameter, and its schedules. ``inspect.trajectory``
records the path of a run. The others measure a loss at given parameters, and are called ``(loss_fn, params, data)``,
with the loss function of ``make_step``: ``inspect.landscape`` on a plane around them, ``inspect.curvature`` the
eigenvalues of its Hessian, ``inspect.noise_scale`` the batch size up to which larger batches pay.
"""

from jaxopt_lessons.inspect.curvature import Curvature, curvature
from jaxopt_lessons.inspect.landscape import Landscape, Projection, landscape
from jaxopt_lessons.inspect.noise_scale import NoiseScale, noise_scale
from jaxopt_lessons.inspect.trajectory import Trajectory, trajectory

__all__ = [
    "Curvature",
    "Landscape",
    "NoiseScale",
    "Projection",
    "Trajectory",
    "curvature",
    "landscape",
    "noise_scale",
    "trajectory",
]
