"""`torchrun --nproc-per-node N -m collab train ...`: one model, one file, printed once."""

import re
import subprocess
import sys

import pytest

from collab import load_learner, synthetic

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchrun") / "ratings.csv"
    synthetic(120, 90, 2_000, seed=1).ratings.to_csv(path, index=False)
    return path


def test_two_processes_train_the_model_of_one(ratings, tmp_path, fresh):
    """Those of torchrun start as from a shell, the others of this file had torch already (see `fresh`)."""
    train = ["-m", "collab", "train", str(ratings), "--epochs", "2", "--out"]
    one = fresh.run(*train, tmp_path / "None.safetensors")
    two = subprocess.run([sys.executable, *TWO, *train, tmp_path / "2.safetensors"], capture_output=True, text=True,
                         timeout=120)
    assert one.returncode == two.returncode == 0, two.stderr
    error = [re.search(r"RMSE.*", done.stdout)[0].split()[:3] for done in (one, two)]
    assert error[0] == error[1] and two.stdout.count("RMSE") == one.stdout.count("RMSE")
    assert two.stdout.count("Wrote") == one.stdout.count("Wrote") and two.stderr.count("train_loss") == 1
    a, b = (load_learner(tmp_path / f"{n}.safetensors") for n in (None, 2))
    assert a.predict(1, 5) == pytest.approx(b.predict(1, 5), abs=1e-3)


def test_other_commands_take_one_process(ratings, fresh, monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29400")):
        monkeypatch.setenv(name, value)
    done = fresh.run("-m", "collab", "check", ratings)
    assert done.returncode == 2 and "torchrun has started several processes, which is for train" in done.stderr


def test_solved_models_take_one_process(ratings, tmp_path, fresh):
    done = fresh.run(*TWO, "--no-python", *fresh.command("-m", "collab", "train", ratings, "--model", "als", "--out",
                                                         tmp_path / "als.safetensors"))
    assert done.returncode and "is solved by one process; start it without torchrun" in done.stderr
    assert not (tmp_path / "als.safetensors").exists()
