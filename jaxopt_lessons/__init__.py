"""Optimizers for JAX that are values, train whole runs in one compiled program, and can be looked into."""

from jaxopt_lessons import losses, tree, types
from jaxopt_lessons._checks import InputError
from jaxopt_lessons.core import EmptyState, Functions, GradientTransformation, Part, ScheduledState
from jaxopt_lessons.core import apply_updates, chain, eval_params, gradient_transformation, identity
from jaxopt_lessons.interop.convert_state import convert_state
from jaxopt_lessons.named_state import load_state_dict, state_dict
from jaxopt_lessons.optimizers.adagrad import ScaleByRssState, adagrad, scale_by_rss
from jaxopt_lessons.optimizers.adam import ScaleByAdamState, adam, adamw, scale_by_adam
from jaxopt_lessons.optimizers.rmsprop import ScaleByRmsState, rmsprop, scale_by_rms
from jaxopt_lessons.optimizers.sgd import ema_momentum, sgd
from jaxopt_lessons.schedules.cosine import cosine_decay_schedule, warmup_cosine_decay_schedule
from jaxopt_lessons.schedules.exponential import exponential_decay
from jaxopt_lessons.schedules.inverse_time import inverse_time_decay
from jaxopt_lessons.schedules.linear import linear_schedule
from jaxopt_lessons.schedules.piecewise import manual_schedule, piecewise_constant_schedule
from jaxopt_lessons.schedules.schedule import Schedule, add_schedules, constant_schedule, join_schedules
from jaxopt_lessons.schedules.schedule import multiply_schedules, schedule
from jaxopt_lessons.train.batches import Batches, minibatches
from jaxopt_lessons.train.evaluate import evaluate
from jaxopt_lessons.train.fit import FitResult, fit
from jaxopt_lessons.train.history import History
from jaxopt_lessons.train.scan import make_epoch, make_scan
from jaxopt_lessons.train.state import TrainState, init_state
from jaxopt_lessons.train.step import Step, Weighted, make_step
from jaxopt_lessons.transforms.clip import clip, clip_by_global_norm
from jaxopt_lessons.transforms.ema import EmaState, ema
from jaxopt_lessons.transforms.learning_rate import ScaleByScheduleState, scale_by_learning_rate, scale_by_schedule
from jaxopt_lessons.transforms.scale import scale
from jaxopt_lessons.transforms.stddev import ScaleByRStdDevState, scale_by_stddev
from jaxopt_lessons.transforms.trace import TraceState, trace
from jaxopt_lessons.transforms.weight_decay import add_decayed_weights
from jaxopt_lessons.tree import global_norm
