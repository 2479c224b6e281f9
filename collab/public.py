"""The public names: `from collab import ...` finds them here. What is in none of its lines is not public."""

from .data.batches import TensorBatches
from .data.data_report import DataReport
from .data.databunch import CollabDataBunch, DataBunch
from .data.features import Features
from .data.negatives import Negatives
from .data.split import (
    draws,
    kfold,
    leave_last,
    movielens_split,
    per_user_split,
    random_split,
    rows_split,
    time_split,
    user_split,
)
from .data.sql import read_sql
from .data.tables import read_table
from .data.vocab import UnknownId, Vocab
from .datasets.movielens import movielens
from .datasets.rating_set import RatingSet
from .datasets.synthetic import synthetic
from .errors import CollabWarning, DataError
from .evaluate import Popularity, RankingMetrics, RankingResult, compare, cross_validate, evaluate
from .interpret import CollabInterpretation, chart_counts, chart_norms
from .learner.collab_learner import CollabLearner
from .learner.ensembles import SnapshotEnsemble, average_learners
from .learner.factory import collab_learner, load_learner
from .learner.new_users import FoldIn
from .learner.objectives import BPR, FullSoftmax, InBatchSoftmax, Logistic, SampledSoftmax
from .learner.predicting import Interval
from .learner.ridge import Ridge
from .losses import (
    RatingCrossEntropy,
    bpr,
    huber,
    logistic,
    mae,
    mse,
    observed_mse,
    sampled_softmax,
    softmax_in_batch,
)
from .metrics import MAE, MSE, RMSE, Metric, WholeSet, rmse
from .models.als import ALS
from .models.base import CollabModel, Unsupported
from .models.baseline import BiasBaseline
from .models.bayesian import BayesianFM
from .models.classifier import RatingClassifier
from .models.dot_form import DotForm
from .models.ease import EASE
from .models.embedding import EmbeddingDot, EmbeddingDotBias
from .models.ensemble import Ensemble, merge_dot_models
from .models.hybrid import HybridNet
from .models.infinite_ae import InfiniteAE
from .models.lightgcn import LightGCN
from .models.net import EmbeddingNet
from .models.penalties import L2, Gravity
from .models.rank_ensemble import RankEnsemble
from .models.sasrec import SASRec
from .models.softmax import SoftmaxNet
from .models.solved import SolvedModel
from .models.svdpp import SVDpp
from .models.two_tower import TwoTower
from .renamed import old_name
from .retrieval.index import Index
from .select.comparison import compare_models
from .select.standings import Comparison
from .select.tuning import tune
from .serve import service
from .sharded_rows import sharded_tables
from .train.callback import Callback
from .train.callbacks.averaging import EMA, SWA
from .train.callbacks.experiment_loggers import MLflow, WandB
from .train.callbacks.loggers import CSVLogger, ShowGraph, TensorBoard
from .train.callbacks.loss_terms import LossTerms
from .train.callbacks.record_every import RecordEvery
from .train.callbacks.resume import Checkpoint
from .train.callbacks.run_log import JSONLines
from .train.callbacks.steps import GradientAccumulation, GradientClip, MixedPrecision, ShortEpoch, Threads
from .train.callbacks.trackers import EarlyStopping, ReduceLROnPlateau, SaveBest, TerminateOnNaN
from .train.events import CancelBatch, CancelEpoch, CancelFit, CancelStep, CancelTrain, CancelValidate
from .train.learner import Learner
from .train.row_adagrad import RowAdagrad
from .train.schedule import ParamScheduler, combine_scheds, sched_cos, sched_exp, sched_lin, sched_no, sched_poly

__getattr__ = old_name

__all__ = [
    "ALS", "BPR", "EASE", "EMA", "L2", "MAE", "MSE", "RMSE", "SWA", "BayesianFM", "BiasBaseline", "CSVLogger",
    "Callback", "CancelBatch", "CancelEpoch", "CancelFit", "CancelStep", "CancelTrain", "CancelValidate",
    "Checkpoint", "CollabDataBunch", "CollabInterpretation", "CollabLearner", "CollabModel", "CollabWarning",
    "Comparison", "DataBunch", "DataError", "DataReport", "DotForm", "EarlyStopping", "EmbeddingDot",
    "EmbeddingDotBias", "EmbeddingNet", "Ensemble", "Features", "FoldIn", "FullSoftmax", "GradientAccumulation",
    "GradientClip", "Gravity", "HybridNet", "InBatchSoftmax", "Index", "InfiniteAE", "Interval", "JSONLines",
    "Learner", "LightGCN", "Logistic", "LossTerms", "MLflow", "Metric", "MixedPrecision", "Negatives",
    "ParamScheduler", "Popularity", "RankEnsemble", "RankingMetrics", "RankingResult", "RatingClassifier",
    "RatingCrossEntropy", "RatingSet", "RecordEvery", "ReduceLROnPlateau", "Ridge", "RowAdagrad", "SASRec", "SVDpp",
    "SampledSoftmax", "SaveBest", "ShortEpoch", "ShowGraph", "SnapshotEnsemble", "SoftmaxNet", "SolvedModel",
    "TensorBatches", "TensorBoard", "TerminateOnNaN", "Threads", "TwoTower", "UnknownId", "Unsupported", "Vocab",
    "WandB", "WholeSet", "average_learners", "bpr", "chart_counts", "chart_norms", "collab_learner",
    "combine_scheds", "compare", "compare_models", "cross_validate", "draws", "evaluate", "huber", "kfold",
    "leave_last", "load_learner", "logistic", "mae", "merge_dot_models", "movielens", "movielens_split", "mse",
    "observed_mse", "per_user_split", "random_split", "read_sql", "read_table", "rmse", "rows_split",
    "sampled_softmax", "sched_cos", "sched_exp", "sched_lin", "sched_no", "sched_poly", "service",
    "sharded_tables", "softmax_in_batch", "synthetic", "time_split", "tune", "user_split",
]
