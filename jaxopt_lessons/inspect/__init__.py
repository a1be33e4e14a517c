"""Looking into optimizers: what one does to which parameter, its schedules drawn, its path, the loss around it."""

from jaxopt_lessons.inspect.landscape import Landscape, Projection, landscape
from jaxopt_lessons.inspect.trajectory import Trajectory, trajectory

__all__ = ["Landscape", "Projection", "Trajectory", "landscape", "trajectory"]
