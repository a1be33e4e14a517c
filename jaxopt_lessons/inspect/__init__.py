"""Looking into optimizers before they run, into their path, and into the loss that they run on.

``jl.explain`` and ``jl.plot`` show what an optimizer does to which parameter, and its schedules. The functions here
measure a loss at given parameters: ``inspect.curvature`` the eigenvalues of its Hessian, ``inspect.noise_scale`` the
batch size up to which larger batches pay, ``inspect.landscape`` the loss on a plane. They are called with the loss
function of ``make_step``. ``inspect.trajectory`` records the path of a run.
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
