"""The command ``train`` under ``torchrun``: the run of one process, by two."""

import os
import subprocess
import sys

import pytest
import torch
import yaml

from delira_nca.experiment import Run, RunConfig
from delira_nca.io import load_checkpoint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are started as on Linux")


@pytest.mark.timeout(200)
@pytest.mark.slow
def test_two_processes_train_the_run_of_one(values, tmp_path):
    values["data"]["batch_size"] = 6
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "-m", "delira_nca", "train", "run.yaml", "--quiet", "--root", "two"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines().count("two/flower") == 1
    one = Run.create(RunConfig.from_dict(values), tmp_path / "one")
    alone = one.train()
    two = Run.open(tmp_path / "two" / "flower")
    ours, theirs = (load_checkpoint(run.checkpoint("latest")) for run in (one, two))
    for name, tensor in ours["network"].items():
        assert torch.allclose(tensor, theirs["network"][name], atol=1e-5), name
    assert theirs["history"][-1]["val_mse"] == pytest.approx(alone.scores["val_mse"], rel=1e-5)
    losses = [[record.loss for record in run.stored.training_stats().iteration_stats] for run in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
