"""Real kills and a full disk, in processes of their own: what was there stays, or the new is there whole."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="has no fork")

KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from delira_nca.io import Manifest, load_checkpoint, plan_resume, save_checkpoint, sweep

folder, trials = Path(sys.argv[1]), int(sys.argv[2])
generator = random.Random(0)

def work(first, ready):
    manifest = Manifest(folder, "run")
    epoch = first
    if first:
        # a kill between the two may have left a file that is not listed
        manifest.add(f"checkpoint_epoch_{first}.safetensors", epoch=first)
    while True:
        epoch += 1
        path = folder / f"checkpoint_epoch_{epoch}.safetensors"
        save_checkpoint({"epoch": epoch, "weights": torch.full((100_000,), float(epoch))}, path)
        manifest.add(path, epoch=epoch)
        for old in sorted(manifest.mine(), key=lambda entry: entry.epoch)[:-2]:
            manifest.remove(old.name)
        if ready is not None:
            os.write(ready, b"x")
            os.close(ready)
            ready = None

reached, strays, survived = 0, 0, 0
for trial in range(trials):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        work(reached, write)
    os.close(write)
    os.read(read, 1)
    os.close(read)
    time.sleep(generator.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    plan = plan_resume("auto", folder)
    state = load_checkpoint(plan.path)
    assert plan.skipped == (), plan
    assert state["weights"].tolist() == [float(state["epoch"])] * 100_000
    assert state["epoch"] == plan.epoch > reached, (plan, reached)
    reached = plan.epoch
    strays += len(sweep(folder))
    left = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert f"checkpoint_epoch_{reached}.safetensors" in left, left
    assert all(name.startswith("checkpoint_epoch_") and name.endswith(".safetensors") for name in left), left
    assert len(left) <= 4, left
    survived += 1
print(survived, strays)
"""

FULL = """
import os, resource, sys
import torch
from delira_nca.errors import CheckpointError
from delira_nca.io import load_checkpoint, save_checkpoint

path = sys.argv[1]
save_checkpoint({"weights": torch.zeros(100)}, path)
for limit in (0, 30, 100, 100_000, 2_000_000):
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            save_checkpoint({"weights": torch.ones(500_000)}, path)
        except CheckpointError as error:
            os._exit(0 if f"cannot write the checkpoint {path}: " in str(error) and "arge" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, limit
    assert load_checkpoint(path)["weights"].tolist() == [0.0] * 100
    assert os.listdir(os.path.dirname(path)) == ["state.pt"]
print("kept")
"""


def run(script, *args):
    done = subprocess.run([sys.executable, "-c", script, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
def test_after_forty_kills_while_saving_a_run_goes_on_each_time_and_nothing_is_left_over(tmp_path):
    survived, strays = map(int, run(KILLS, tmp_path, 40))
    assert survived == 40
    assert strays >= 3, "the kills came too late to prove anything"


def test_a_full_disk_leaves_the_former_file_and_no_other(tmp_path):
    assert run(FULL, tmp_path / "state.pt") == ["kept"]
