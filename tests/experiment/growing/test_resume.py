"""A run that grows a picture is ended in the middle, and finished: nothing shows that it was."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import CheckpointError, ConfigError, MissingFileError
from delira_nca.experiment import GrowConfig, grow, resume_growing
from delira_nca.io import load_checkpoint

QUICK = ("--size", "8", "--padding", "3", "--steps", "4", "8", "--iterations", "3", "--pool-size", "16")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("picture")
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[8:32, 8:32] = (0, 200, 0, 255)
    Image.fromarray(pixels).save(folder / "square.png")
    return str(folder / "square.png")


def start(*arguments):
    command = [sys.executable, "-m", "delira_nca", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def config(picture, folder, epochs):
    return GrowConfig(
        target=picture, out=str(folder), size=8, padding=3, steps=(4, 8), iterations=3, pool_size=16, epochs=epochs
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_ended_is_finished_as_if_it_had_not_been(picture, tmp_path, number, code):
    grow(config(picture, tmp_path / "straight" / "run", 24), progress=False)
    process = start(
        "grow", "--target", picture, "--out", tmp_path / "run", "--epochs", 24, "--save-seconds", 0.1, *QUICK
    )
    deadline = time.monotonic() + 60
    while (
        not list((tmp_path / "run").glob("checkpoints/checkpoint_epoch_[3-9]*.safetensors"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    resumed = start("resume", tmp_path / "run")
    out, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert out.startswith("resume after epoch ")
    straight, again = (load_checkpoint(f / "checkpoints" / "checkpoint_epoch_24.safetensors") for f in _both(tmp_path))
    assert again["global_iter_num"] == 72
    for name, value in straight["network"].items():
        assert torch.equal(value, again["network"][name])
    for name in ("metrics.jsonl", "film.gif", "preview.png"):
        assert len({(folder / name).read_bytes() for folder in _both(tmp_path)}) == 1, name
    outcomes = [json.loads((folder / "result.json").read_text())["outcome"] for folder in _both(tmp_path)]
    assert outcomes[0] == outcomes[1]
    pages = {
        (f / "live.html").read_text().replace(s["run_id"], "run")
        for f, s in zip(_both(tmp_path), (straight, again), strict=True)
    }
    assert len(pages) == 1
    assert not list((tmp_path / "run").rglob("*.tmp"))


def _both(folder):
    return folder / "straight" / "run", folder / "run"


def test_a_run_that_was_ended_before_its_first_checkpoint_begins_anew(picture, tmp_path):
    grow(config(picture, tmp_path / "run", 1), progress=False)
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    before = json.loads((tmp_path / "run" / "result.json").read_text())
    resume_growing(tmp_path / "run", progress=False)
    after = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["versions"]["torch"] == torch.__version__
    with pytest.raises(ConfigError, match="already holds a run: .* or resume it"):
        grow(config(picture, tmp_path / "run", 1), progress=False)


def test_what_is_no_run_is_named(picture, tmp_path):
    with pytest.raises(MissingFileError, match="there is no run .*nowhere"):
        resume_growing(tmp_path / "nowhere")
    grow(config(picture, tmp_path / "run", 1), progress=False)
    for file in (tmp_path / "run" / "checkpoints").glob("*.safetensors"):
        file.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="checkpoint_epoch_1"):
        resume_growing(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text() + "num_epoch: 3\n")
    with pytest.raises(ConfigError, match="Did you mean 'num_epochs'"):
        resume_growing(tmp_path / "run")
    path.rename(path.with_name("config.json"))
    with pytest.raises(ConfigError, match="is from an older version"):
        resume_growing(tmp_path / "run")
