"""Several processes over ratings in files: encoded once, and trained as by one."""

import torch
from helpers import Batchwise
from processes import in_processes, values

from collab import RMSE, CollabDataBunch, collab_learner, synthetic

RATINGS = synthetic(n_users=120, n_items=90, n_ratings=3_000, seed=3).ratings


def test_processes_encode_once_and_train_as_one_does(tmp_path):
    """Without a seed: the first to come draws it, and the others take that of the encoding."""
    RATINGS.to_parquet(tmp_path / "ratings.parquet", index=False)

    def trained(rank, folder="shared"):
        torch.manual_seed(rank)
        data = CollabDataBunch.from_parquet(tmp_path / "ratings.parquet", folder=tmp_path / folder, bs=100, val_bs=130,
                                            device="cpu")
        learn = collab_learner(data, n_factors=5, lr=5e-3, wd=0.1, seed=1, metrics=RMSE(), cbs=Batchwise())
        with learn.no_logging(), learn.distributed(minutes=0.5):
            learn.fit_one_cycle(2)
        return data.seed, [p.detach() for p in learn.model.parameters()], learn.recorder.rows[-1]["rmse"]
    many = values(in_processes(3, trained))
    encoded = [path.name for path in (tmp_path / "shared").iterdir() if path.is_dir()]
    assert len(encoded) == 1 and len({seed for seed, *_ in many}) == 1
    one = trained(0)                    # opens what is there
    for seed, params, rmse in many:
        assert seed == one[0] and abs(rmse - one[2]) < 1e-6
        for p, own in zip(params, one[1]):
            torch.testing.assert_close(p, own, atol=1e-5, rtol=0)


def test_other_encodings_are_refused(tmp_path):
    RATINGS.to_parquet(tmp_path / "0.parquet", index=False)
    RATINGS[::2].to_parquet(tmp_path / "1.parquet", index=False)

    def trained(rank):
        data = CollabDataBunch.from_parquet(tmp_path / f"{rank}.parquet", folder=tmp_path / f"encoded{rank}", seed=0,
                                            bs=100, device="cpu")
        with (learn := collab_learner(data, n_factors=5)).distributed(minutes=0.5):
            learn.fit(1)
    for how, what in in_processes(2, trained):
        assert how == "raised" and ("number of training batches" in what or "has other training rows" in what)
