"""Collaborative filtering in PyTorch: ratings in, recommendations out.

>>> from collab import *
>>> data = CollabDataBunch.from_df(synthetic(seed=0).ratings, seed=0)
>>> learn = collab_learner(data)
"""

from .build import collab_learner, load_learner
from .data.batches import TensorBatches
from .data.databunch import CollabDataBunch, DataBunch
from .data.dataset import RatingSet
from .data.files import read_table
from .data.movielens import movielens
from .data.schema import DataError
from .data.split import kfold, leave_last, movielens_split, random_split, rows_split, time_split, user_split
from .data.synthetic import synthetic
from .data.vocab import UnknownId, Vocab
from .ensembles import SnapshotEnsemble, average_learners
from .interpret import CollabInterpretation, chart_counts, chart_norms
from .learner import CollabLearner
from .losses import RatingCrossEntropy, mae, mse
from .metrics import MAE, MSE, RMSE, Metric
from .models.baseline import BiasBaseline
from .models.classifier import RatingClassifier
from .models.embedding import EmbeddingDot, EmbeddingDotBias, EmbeddingNet
from .models.ensemble import Ensemble, fold
from .train.averaging import EMA, SWA
from .train.callback import Callback
from .train.events import CancelBatch, CancelEpoch, CancelFit, CancelStep, CancelTrain, CancelValidate
from .train.learner import Learner
from .train.loggers import CSVLogger, ShowGraph, TensorBoard
from .train.resume import Checkpoint
from .train.schedule import (
    ParamScheduler,
    combine_scheds,
    sched_cos,
    sched_exp,
    sched_lin,
    sched_no,
    sched_poly,
)
from .train.steps import GradientAccumulation, GradientClip, MixedPrecision, ShortEpoch, Threads
from .train.trackers import EarlyStopping, ReduceLROnPlateau, SaveBest, TerminateOnNaN

__version__ = "0.1.0"

__all__ = [
    "EMA", "MAE", "MSE", "RMSE", "SWA", "BiasBaseline", "CSVLogger", "Callback", "CancelBatch", "CancelEpoch",
    "CancelFit", "CancelStep", "CancelTrain", "CancelValidate", "Checkpoint", "CollabDataBunch",
    "CollabInterpretation", "CollabLearner", "DataBunch", "DataError", "EarlyStopping", "EmbeddingDot",
    "EmbeddingDotBias", "EmbeddingNet", "Ensemble", "GradientAccumulation", "GradientClip", "Learner", "Metric",
    "MixedPrecision", "ParamScheduler", "RatingClassifier", "RatingCrossEntropy", "RatingSet", "ReduceLROnPlateau",
    "SaveBest", "ShortEpoch", "ShowGraph", "SnapshotEnsemble",
    "TensorBatches", "TensorBoard", "TerminateOnNaN", "Threads", "UnknownId", "Vocab", "average_learners",
    "chart_counts", "chart_norms", "collab_learner",
    "combine_scheds", "fold", "kfold", "leave_last", "load_learner", "mae", "movielens", "movielens_split", "mse",
    "random_split", "read_table", "rows_split", "sched_cos", "sched_exp", "sched_lin", "sched_no", "sched_poly",
    "synthetic", "time_split", "user_split",
]
