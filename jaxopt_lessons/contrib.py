"""The names of ``optax.contrib``, for scripts written for optax: all of them are public names of the package itself.

    import jaxopt_lessons as optax
    tx = optax.contrib.prodigy(1.0)               the same as jl.prodigy(1.0)

More of optax's names: ``interop/optax_names.py``.
"""

from typing import TYPE_CHECKING

from jaxopt_lessons.core import EmptyState as NormalizeState
from jaxopt_lessons.interop import optax_names
from jaxopt_lessons.optimizers.acprop import acprop, scale_by_acprop
from jaxopt_lessons.optimizers.ademamix import ScaleByAdemamixState, ademamix, scale_by_ademamix
from jaxopt_lessons.optimizers.adopt import adopt, scale_by_adopt
from jaxopt_lessons.optimizers.cocob import COCOBState, cocob, scale_by_cocob
from jaxopt_lessons.optimizers.dadapt_adamw import DAdaptAdamWState, dadapt_adamw
from jaxopt_lessons.optimizers.dog import DoGState, dog
from jaxopt_lessons.optimizers.dowg import DoWGState, dowg
from jaxopt_lessons.optimizers.dpsgd import dpsgd
from jaxopt_lessons.optimizers.madgrad import MadgradState, madgrad, scale_by_madgrad
from jaxopt_lessons.optimizers.momo import MomoState, momo
from jaxopt_lessons.optimizers.momo_adam import MomoAdamState, momo_adam
from jaxopt_lessons.optimizers.prodigy import ProdigyState, prodigy
from jaxopt_lessons.optimizers.schedule_free import schedule_free_adamw, schedule_free_sgd
from jaxopt_lessons.optimizers.simplified_ademamix import (
    ScaleBySimplifiedAdEMAMixState,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from jaxopt_lessons.optimizers.sophia import SophiaState, sophia
from jaxopt_lessons.transforms.differential_privacy import (
    DifferentiallyPrivateAggregateState,
    differentially_private_aggregate,
)
from jaxopt_lessons.transforms.hutchinson import HutchinsonState, hutchinson_estimator_diag_hessian
from jaxopt_lessons.transforms.normalize import normalize
from jaxopt_lessons.transforms.reduce_on_plateau import ReduceLROnPlateauState, reduce_on_plateau
from jaxopt_lessons.wrappers.mechanize import MechanicState, mechanize
from jaxopt_lessons.wrappers.sam import SAMState, sam
from jaxopt_lessons.wrappers.schedule_free import ScheduleFreeState, schedule_free
from jaxopt_lessons.wrappers.split_real_and_imaginary import SplitRealAndImaginaryState, split_real_and_imaginary

__all__ = [
    "COCOBState",
    "DAdaptAdamWState",
    "DifferentiallyPrivateAggregateState",
    "DoGState",
    "DoWGState",
    "HutchinsonState",
    "MadgradState",
    "MechanicState",
    "MomoAdamState",
    "MomoState",
    "NormalizeState",
    "ProdigyState",
    "ReduceLROnPlateauState",
    "SAMState",
    "ScaleByAdemamixState",
    "ScaleBySimplifiedAdEMAMixState",
    "ScheduleFreeState",
    "SophiaState",
    "SplitRealAndImaginaryState",
    "acprop",
    "ademamix",
    "adopt",
    "cocob",
    "dadapt_adamw",
    "differentially_private_aggregate",
    "dog",
    "dowg",
    "dpsgd",
    "hutchinson_estimator_diag_hessian",
    "madgrad",
    "mechanize",
    "momo",
    "momo_adam",
    "normalize",
    "prodigy",
    "reduce_on_plateau",
    "sam",
    "scale_by_acprop",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_cocob",
    "scale_by_madgrad",
    "scale_by_simplified_ademamix",
    "schedule_free",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "simplified_ademamix",
    "sophia",
    "split_real_and_imaginary",
]

if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> object:
        raise optax_names.missing("jaxopt_lessons.contrib", name)
