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
from .interpret import CollabInterpretation
from .learner import CollabLearner
from .losses import mae, mse
from .metrics import MAE, MSE, RMSE, Metric
from .models.baseline import BiasBaseline
from .models.embedding import EmbeddingDot, EmbeddingDotBias, EmbeddingNet
from .train.callback import Callback
from .train.events import CancelBatch, CancelEpoch, CancelFit, CancelStep, CancelTrain, CancelValidate
from .train.learner import Learner

__version__ = "0.1.0"

__all__ = [
    "MAE", "MSE", "RMSE", "BiasBaseline", "Callback", "CancelBatch", "CancelEpoch", "CancelFit", "CancelStep",
    "CancelTrain", "CancelValidate", "CollabDataBunch", "CollabInterpretation", "CollabLearner", "DataBunch",
    "DataError", "EmbeddingDot", "EmbeddingDotBias", "EmbeddingNet", "Learner", "Metric", "RatingSet",
    "TensorBatches", "UnknownId", "Vocab", "collab_learner", "kfold", "leave_last", "load_learner", "mae",
    "movielens", "movielens_split", "mse", "random_split", "read_table", "rows_split", "synthetic", "time_split",
    "user_split",
]
