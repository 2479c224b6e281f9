"""The order in which callbacks are called: one table for all that ship."""

from __future__ import annotations

from enum import IntEnum


class Order(IntEnum):
    """Callbacks are called by ascending order at every event; the table reads from first to last.

    A callback of your own may name any number, also one between two of these: `order = Order.RECORDER + 0.5`."""

    SEEDED = -100           # Seeded: whatever the others draw in a fit comes from the learner's own stream
    SHARDED = -99           # ShardedTables: looks rows up and steps them; after a validation, for the others too
    SWEEPS = -98            # Sweeps: all rows are one batch before anything counts batches
    DISTRIBUTED = -97       # Distributed: slices the batch, and makes its loss that of all rows, before others see them
    THREADS = -95           # Threads: the number of threads holds for everything that follows
    EPOCH_START = -90       # EpochStart: remembers random states before anything draws
    TILES = -85             # TileOrder: the batches are arranged before they are counted
    RESUME = -80            # Resume: skips what was done before others work on it (`run_after` SHORT_EPOCH)
    RECORD_EVERY = -60      # RecordEvery: cancels a validation before others prepare for it
    SHORT_EPOCH = -50       # ShortEpoch: the number of batches is settled before it is used
    AVERAGING = -30         # EMA, SWA: averaged weights are in the model before anything validates it
    SCORES = -20            # Scores: loss and metrics of a validation
    LOSS_TERMS = -16        # LossTerms: the loss is complete before it is recorded, weighted or tested
    RANKING_METRICS = -15   # RankingMetrics: joins the values of Scores
    RECORDER = -10          # Recorder: completes the epoch's row
    RIDGE = -5              # Ridge: joins the loss after it was recorded
    DEFAULT = 0             # yours, unless they say otherwise, objectives and TerminateOnNaN: they find that row
    ACCUMULATION = 20       # GradientAccumulation: decides whether there is a step
    REDUCTION = 22          # Reduction: adds up the gradients of processes, once a step, while they are still scaled
    MIXED_PRECISION = 25    # MixedPrecision: unscales the gradients, once a step
    CLIP = 30               # GradientClip: clips gradients that are complete and unscaled
    SCHEDULE = 50           # ParamScheduler, the test of lr_find: the last word on rates before the batch
    YARDSTICK = 65          # MeanYardstick: reads a row that other callbacks may have completed
    LOGGER = 66             # CSVLogger, JSONLines, TensorBoard, MLflow, WandB: write that row
    GRAPH = 67              # ShowGraph: draws it
    PROGRESS = 70           # Progress: prints it
    TRACKER = 80            # EarlyStopping, SaveBest, ReduceLROnPlateau: may end the fit, after the row is printed
    SNAPSHOTS = 85          # SnapshotEnsemble: replaces the model after the trackers have put back their weights
    AVERAGE_UNKNOWN = 90    # AverageUnknown: row 0 is the average of the weights that are kept
    CHECKPOINT = 100        # Checkpoint: writes a state that no other callback changes any more
