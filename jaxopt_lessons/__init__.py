"""Optimizers for JAX that are values, train whole runs in one compiled program, and can be looked into."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from jaxopt_lessons import contrib, inspect, losses, projections, tree, types
from jaxopt_lessons._errors import InputError
from jaxopt_lessons.core import EmptyState, Functions, GradientTransformation, Part, ScheduledState
from jaxopt_lessons.core import apply_updates, chain, eval_params, gradient_transformation, identity
from jaxopt_lessons.grid import Grid, grid
from jaxopt_lessons.hyperparameters import hyperparams, set_hyperparams
from jaxopt_lessons.inspect.explain import Explanation, explain
from jaxopt_lessons.inspect.plot import plot
from jaxopt_lessons.interop.convert_state import convert_state
from jaxopt_lessons.interop.inject_hyperparams import InjectStatefulHyperparamsState, WrappedScheduleState
from jaxopt_lessons.interop.module_loss import equinox_loss, nnx_loss
from jaxopt_lessons.measure import Measure, measure_with_ema
from jaxopt_lessons.named_state import load_state_dict, state_dict
from jaxopt_lessons.optimizers.acprop import ScaleByAcpropState, acprop, scale_by_acprop
from jaxopt_lessons.optimizers.adabelief import ScaleByBeliefState, adabelief, scale_by_belief
from jaxopt_lessons.optimizers.adadelta import ScaleByAdaDeltaState, adadelta, scale_by_adadelta
from jaxopt_lessons.optimizers.adafactor import FactoredState, adafactor, scale_by_factored_rms
from jaxopt_lessons.optimizers.adagrad import ScaleByRssState, adagrad, scale_by_rss
from jaxopt_lessons.optimizers.adam import adam, adamw
from jaxopt_lessons.optimizers.adam_atan2 import ScaleByAdamAtan2State, adam_atan2, scale_by_adam_atan2
from jaxopt_lessons.optimizers.adam_mini import ScaleByAdamMiniState, adam_mini, scale_by_adam_mini
from jaxopt_lessons.optimizers.adamax import ScaleByAdamaxState, adamax, adamaxw, scale_by_adamax
from jaxopt_lessons.optimizers.adan import ScaleByAdanState, adan, scale_by_adan
from jaxopt_lessons.optimizers.ademamix import ScaleByAdemamixState, ademamix, scale_by_ademamix
from jaxopt_lessons.optimizers.adopt import ScaleByAdoptState, adopt, scale_by_adopt
from jaxopt_lessons.optimizers.amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from jaxopt_lessons.optimizers.came import ScaleByCameState, came, scale_by_came
from jaxopt_lessons.optimizers.cocob import COCOBState, cocob, scale_by_cocob
from jaxopt_lessons.optimizers.dadapt_adamw import DAdaptAdamWState, dadapt_adamw
from jaxopt_lessons.optimizers.distance_over_gradients import ScaleByDistanceOverGradientsState
from jaxopt_lessons.optimizers.distance_over_gradients import scale_by_distance_over_gradients
from jaxopt_lessons.optimizers.dog import DoGState, dog, scale_by_dog
from jaxopt_lessons.optimizers.dowg import DoWGState, dowg, scale_by_dowg
from jaxopt_lessons.optimizers.dpsgd import dpsgd
from jaxopt_lessons.optimizers.fromage import fromage
from jaxopt_lessons.optimizers.laprop import ScaleByLapropState, laprop, scale_by_laprop
from jaxopt_lessons.optimizers.lamb import lamb
from jaxopt_lessons.optimizers.lars import lars
from jaxopt_lessons.optimizers.lion import ScaleByLionState, lion, scale_by_lion
from jaxopt_lessons.optimizers.madgrad import MadgradState, madgrad, scale_by_madgrad
from jaxopt_lessons.optimizers.mars import ScaleByMarsState, mars, scale_by_mars
from jaxopt_lessons.optimizers.momo import MomoState, momo
from jaxopt_lessons.optimizers.momo_adam import MomoAdamState, momo_adam
from jaxopt_lessons.optimizers.nadam import nadam, nadamw
from jaxopt_lessons.optimizers.nadam_dozat import ScaleByNadamState, nadam_dozat, scale_by_nadam
from jaxopt_lessons.optimizers.noisy_sgd import noisy_sgd
from jaxopt_lessons.optimizers.novograd import ScaleByNovogradState, novograd, scale_by_novograd
from jaxopt_lessons.optimizers.optimistic import optimistic_gradient_descent
from jaxopt_lessons.optimizers.optimistic_adam import optimistic_adam, optimistic_adam_v2
from jaxopt_lessons.optimizers.polyak_sgd import polyak_sgd
from jaxopt_lessons.optimizers.prodigy import ProdigyState, prodigy
from jaxopt_lessons.optimizers.qhadam import ScaleByQhadamState, qhadam, scale_by_qhadam
from jaxopt_lessons.optimizers.qhm import ScaleByQhmState, qhm, scale_by_qhm
from jaxopt_lessons.optimizers.radam import ScaleByRadamState, radam, scale_by_radam
from jaxopt_lessons.optimizers.rmsprop import rmsprop
from jaxopt_lessons.optimizers.rprop import ScaleByRpropState, rprop, scale_by_rprop
from jaxopt_lessons.optimizers.schedule_free import schedule_free_adamw, schedule_free_radam, schedule_free_sgd
from jaxopt_lessons.optimizers.sgd import ema_momentum, sgd
from jaxopt_lessons.optimizers.sign import sign_sgd, signum
from jaxopt_lessons.optimizers.simplified_ademamix import ScaleBySimplifiedAdEMAMixState, scale_by_simplified_ademamix
from jaxopt_lessons.optimizers.simplified_ademamix import simplified_ademamix
from jaxopt_lessons.optimizers.sm3 import ScaleBySM3State, scale_by_sm3, sm3
from jaxopt_lessons.optimizers.sophia import SophiaState, scale_by_sophia, sophia
from jaxopt_lessons.optimizers.stable_adamw import ScaleByStableAdamwState, scale_by_stable_adamw, stable_adamw
from jaxopt_lessons.optimizers.yogi import ScaleByYogiState, scale_by_yogi, yogi
from jaxopt_lessons.schedules.batch_scaling import linear_batch_scaling, sqrt_batch_scaling
from jaxopt_lessons.schedules.chebyshev import chebyshev_schedule
from jaxopt_lessons.schedules.combinators import add_schedules, clip_schedule, hold_schedule, join_schedules
from jaxopt_lessons.schedules.combinators import multiply_schedules, per_epoch_schedule, repeat_schedule, shift_schedule
from jaxopt_lessons.schedules.combinators import stretch_schedule, then_schedule
from jaxopt_lessons.schedules.cosine import cosine_decay_schedule, warmup_cosine_decay_schedule
from jaxopt_lessons.schedules.cyclic import cyclic_schedule
from jaxopt_lessons.schedules.exponential import exponential_decay, warmup_exponential_decay_schedule
from jaxopt_lessons.schedules.fraction_of import fraction_of
from jaxopt_lessons.schedules.inverse_time import inverse_time_decay
from jaxopt_lessons.schedules.linear import linear_schedule, linear_to_zero
from jaxopt_lessons.schedules.noam import noam_schedule
from jaxopt_lessons.schedules.onecycle import cosine_onecycle_momentum_schedule, cosine_onecycle_schedule
from jaxopt_lessons.schedules.onecycle import linear_onecycle_momentum_schedule, linear_onecycle_schedule
from jaxopt_lessons.schedules.piecewise import manual_schedule, piecewise_constant_schedule
from jaxopt_lessons.schedules.piecewise import piecewise_interpolate_schedule
from jaxopt_lessons.schedules.polynomial import polynomial_schedule
from jaxopt_lessons.schedules.power import inverse_square_root_decay, power_decay
from jaxopt_lessons.schedules.restarts import cosine_decay_restarts, sgdr_schedule
from jaxopt_lessons.schedules.rex import rex_schedule
from jaxopt_lessons.schedules.schedule import Schedule, Timed, constant_schedule, schedule
from jaxopt_lessons.schedules.step import halving_schedule, multistep_decay, step_decay
from jaxopt_lessons.schedules.warmup import warmup, warmup_constant_schedule
from jaxopt_lessons.schedules.wsd import wsd_schedule
from jaxopt_lessons.train.batches import Batches, minibatches
from jaxopt_lessons.train.device_plan import DevicePlan, make_plan
from jaxopt_lessons.train.ema import with_ema
from jaxopt_lessons.train.evaluate import evaluate
from jaxopt_lessons.train.fit import FitResult, fit
from jaxopt_lessons.train.guard import with_guard
from jaxopt_lessons.train.halving_result import HalvingResult
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.hosts import agree, is_main
from jaxopt_lessons.train.lr_find import LearningRates, lr_find
from jaxopt_lessons.train.objective import Weighted
from jaxopt_lessons.train.observers.best_weights import BestWeights
from jaxopt_lessons.train.observers.checkpoint import Checkpoint
from jaxopt_lessons.train.observers.csv_file import CSV
from jaxopt_lessons.train.observers.early_stopping import EarlyStopping
from jaxopt_lessons.train.observers.observer import Every, Lambda, Observer
from jaxopt_lessons.train.observers.profile import Profile
from jaxopt_lessons.train.observers.reduce_on_plateau import ReduceOnPlateau
from jaxopt_lessons.train.observers.rollback import Rollback
from jaxopt_lessons.train.observers.tensorboard import TensorBoard
from jaxopt_lessons.train.optuna_sweep import optuna_sweep
from jaxopt_lessons.train.run import Run
from jaxopt_lessons.train.save import latest_step, restore, save
from jaxopt_lessons.train.policy import Policy
from jaxopt_lessons.train.scan import make_epoch, make_scan
from jaxopt_lessons.train.state import TrainState, init_state
from jaxopt_lessons.train.step import Step, make_step
from jaxopt_lessons.train.stream import Stream
from jaxopt_lessons.train.successive_halving import successive_halving
from jaxopt_lessons.train.sweep import sweep
from jaxopt_lessons.train.sweep_result import SweepResult
from jaxopt_lessons.train.with_plan import with_plan
from jaxopt_lessons.transforms.adam import ScaleByAdamState, scale_by_adam
from jaxopt_lessons.transforms.adaptive_grad_clip import adaptive_grad_clip
from jaxopt_lessons.transforms.adaptive_normalize import adaptive_normalize
from jaxopt_lessons.transforms.apply_every import ApplyEveryState, apply_every
from jaxopt_lessons.transforms.centralize import centralize
from jaxopt_lessons.transforms.clip import clip, clip_by_block_rms, clip_by_global_norm
from jaxopt_lessons.transforms.differential_privacy import DifferentiallyPrivateAggregateState
from jaxopt_lessons.transforms.differential_privacy import differentially_private_aggregate
from jaxopt_lessons.transforms.ema import EmaState, ema
from jaxopt_lessons.transforms.hutchinson import HutchinsonState, hutchinson_estimator_diag_hessian
from jaxopt_lessons.transforms.keep_params import keep_params_in, keep_params_nonnegative
from jaxopt_lessons.transforms.learning_rate import ScaleByScheduleState, scale_by_learning_rate, scale_by_schedule
from jaxopt_lessons.transforms.noise import AddNoiseState, add_noise
from jaxopt_lessons.transforms.normalize import normalize, normalize_by_update_norm
from jaxopt_lessons.transforms.optimistic import ScaleByOptimisticGradientState, scale_by_optimistic_gradient
from jaxopt_lessons.transforms.param_block import scale_by_param_block_norm, scale_by_param_block_rms
from jaxopt_lessons.transforms.per_example import per_example_global_norm_clip, per_example_layer_norm_clip
from jaxopt_lessons.transforms.polyak import scale_by_polyak
from jaxopt_lessons.transforms.reduce_on_plateau import ReduceLROnPlateauState, reduce_on_plateau
from jaxopt_lessons.transforms.rms import ScaleByRmsState, scale_by_rms
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.transforms.scale_gradient import scale_gradient
from jaxopt_lessons.transforms.sign import scale_by_sign
from jaxopt_lessons.transforms.snapshot import SnapshotState, snapshot
from jaxopt_lessons.transforms.stateless import init_empty_state, stateless, stateless_with_tree_map
from jaxopt_lessons.transforms.stddev import ScaleByRStdDevState, scale_by_stddev
from jaxopt_lessons.transforms.trace import TraceState, trace
from jaxopt_lessons.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_lessons.transforms.weight_decay import add_cautious_weight_decay, add_decayed_weights
from jaxopt_lessons.transforms.zero import set_to_zero
from jaxopt_lessons.transforms.zero_nans import ZeroNansState, zero_nans
from jaxopt_lessons.tree import global_norm
from jaxopt_lessons.wrappers.apply_if_finite import ApplyIfFiniteState, apply_if_finite, skip_nonfinite
from jaxopt_lessons.wrappers.average_params import AverageParamsState, ema_params, polynomial_average_params, swa_params
from jaxopt_lessons.wrappers.cautious import cautious
from jaxopt_lessons.wrappers.conditionally import ConditionallyTransformState, conditionally_mask
from jaxopt_lessons.wrappers.conditionally import conditionally_transform
from jaxopt_lessons.wrappers.extra_args import with_extra_args_support
from jaxopt_lessons.wrappers.flatten import flatten
from jaxopt_lessons.wrappers.groups import group_labels, groups
from jaxopt_lessons.wrappers.kahan import KahanState, kahan
from jaxopt_lessons.wrappers.lookahead import LookaheadState, lookahead
from jaxopt_lessons.wrappers.masked import MaskedState, freeze, masked, selective_transform
from jaxopt_lessons.wrappers.mechanize import MechanicState, mechanize
from jaxopt_lessons.wrappers.master_weights import MasterWeightsState, master_weights
from jaxopt_lessons.wrappers.moment_dtypes import MomentDtypesState, moment_dtypes
from jaxopt_lessons.wrappers.monitor import MonitorState, monitor
from jaxopt_lessons.wrappers.multi_steps import MultiSteps, MultiStepsState, skip_large_updates, skip_not_finite
from jaxopt_lessons.wrappers.named_chain import named_chain
from jaxopt_lessons.wrappers.partition import PartitionState, multi_transform, partition
from jaxopt_lessons.wrappers.precision import with_precision
from jaxopt_lessons.wrappers.sam import SAMState, asam, sam
from jaxopt_lessons.wrappers.schedule_free import ScheduleFreeState, schedule_free
from jaxopt_lessons.wrappers.split_master_weights import SplitMasterWeightsState, split_master_weights
from jaxopt_lessons.wrappers.split_real_and_imaginary import SplitRealAndImaginaryState, split_real_and_imaginary
from jaxopt_lessons.wrappers.stochastic_rounding import StochasticRoundingState, stochastic_rounding
from jaxopt_lessons.wrappers.target_params import incremental_update, periodic_update

if not _TYPE_CHECKING:  # optax's other names, which a type checker need not accept
    from jaxopt_lessons.interop.optax_names import attribute as __getattr__
