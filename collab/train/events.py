"""The events of training, the verbs, and the exceptions that end a scope early."""

SCOPES = ("fit", "epoch", "train", "validate", "batch")
POINTS = ("after_pred", "after_loss", "after_backward", "after_step")
IN_BULK = ("before_chunk", "after_chunk")       # many batches at once, in a fused pass (see `fused`)
EVENTS = tuple(f"{when}_{scope}" for scope in SCOPES for when in ("before", "after", "cleanup")) + POINTS + IN_BULK
VERBS = ("predict", "get_loss", "backward", "step", "zero_grad")


class Cancel(Exception):
    """Ends a scope: its `after_` event is left out, its `cleanup_` event still runs. In a cleanup it is an error."""


class CancelFit(Cancel):
    """Ends the whole fit."""


class CancelEpoch(Cancel):
    """Ends the epoch; the next one follows."""


class CancelTrain(Cancel):
    """Ends the training part of the epoch; validation follows."""


class CancelValidate(Cancel):
    """Ends the validation part of the epoch."""


class CancelBatch(Cancel):
    """Ends the batch; the next one follows."""


class CancelStep(Cancel):
    """Skips the optimizer's step and the clearing of gradients after it, so that gradients add up."""


CANCEL = dict(zip(SCOPES, (CancelFit, CancelEpoch, CancelTrain, CancelValidate, CancelBatch)))
