"""`torchrun --nproc-per-node N -m collab train ...`: one model, one file, printed once."""

import os
import re
import subprocess
import sys

import pytest

from collab import load_learner, synthetic


def run(*args, processes=None, **env):
    """A command of `collab`, by torchrun where there are `processes`."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes else []
    return subprocess.run([sys.executable, *start, "-m", "collab", *map(str, args)], capture_output=True, text=True,
                          timeout=120, env={**os.environ, **env})


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    path = tmp_path_factory.mktemp("torchrun") / "ratings.csv"
    synthetic(120, 90, 2_000, seed=1).ratings.to_csv(path, index=False)
    return path


def test_two_processes_train_the_model_of_one(ratings, tmp_path):
    one, two = (run("train", ratings, "--epochs", 2, "--out", tmp_path / f"{n}.safetensors", processes=n)
                for n in (None, 2))
    assert one.returncode == two.returncode == 0, two.stderr
    error = [re.search(r"RMSE.*", done.stdout)[0].split()[:3] for done in (one, two)]
    assert error[0] == error[1] and two.stdout.count("RMSE") == one.stdout.count("RMSE")
    assert two.stdout.count("Wrote") == one.stdout.count("Wrote") and two.stderr.count("train_loss") == 1
    a, b = (load_learner(tmp_path / f"{n}.safetensors") for n in (None, 2))
    assert a.predict(1, 5) == pytest.approx(b.predict(1, 5), abs=1e-3)


def test_other_commands_take_one_process(ratings):
    env = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
    done = run("check", ratings, **env)
    assert done.returncode == 2 and "torchrun has started several processes, which is for train" in done.stderr


def test_solved_models_take_one_process(ratings, tmp_path):
    done = run("train", ratings, "--model", "als", "--out", tmp_path / "als.safetensors", processes=2)
    assert done.returncode and "is solved by one process; start it without torchrun" in done.stderr
    assert not (tmp_path / "als.safetensors").exists()
