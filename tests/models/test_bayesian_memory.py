"""What a fit of BayesianFM takes, in a process of its own, beside what it says it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collab.compiled import not_compiled

CLEAR = Path("/proc/self/clear_refs")       # writing 5 makes VmHWM, the largest resident size, begin anew
CHILD = '''
import sys
from pathlib import Path
import torch
from collab.models import bayesian
torch.set_num_threads(1)
bayesian.suits = lambda table: sys.argv[1] == "kernels"
said = []
bayesian.forecast = lambda what, n_bytes, *rest: said.append(n_bytes)

def resident(name):
    return 1024 * int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0])

def sweep(n_factors, n_users, n_items, n):
    users, items = torch.randint(1, n_users, (n,)), torch.randint(1, n_items, (n,))
    model, ratings = bayesian.BayesianFM(n_factors, n_users, n_items, per_epoch=1, n_draws=1), torch.randn(n)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    model.sweep(model.prepare(users, items, ratings))
    return resident("VmHWM") - before

sweep(2, 50, 40, 1000)      # what is imported and compiled
print(sweep(*map(int, sys.argv[2:])) / said[-1])
'''


@pytest.mark.skipif(not CLEAR.exists(), reason="the kernel's record of the largest resident size begins anew")
@pytest.mark.parametrize("shape", [(2, 3_000, 2_000, 2_000_000), (32, 60_000, 1_000, 200_000)],
                         ids=["many ratings", "many rows"])
@pytest.mark.parametrize("way", ["torch", pytest.param("kernels", marks=pytest.mark.skipif(
    not_compiled() is not None, reason=str(not_compiled())))])
def test_a_fit_takes_what_is_forecast(way: str, shape: tuple[int, ...]):
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", CHILD, way, *map(str, shape)], capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr
    assert 0.7 < float(found.stdout) < 1.25
