"""A run on the disk as a live page."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.errors import CheckpointError, MissingFileError
from delira_nca.experiment import GrowConfig, export_html, grow
from delira_nca.io import load_checkpoint, save_checkpoint

QUICK = {"size": 8, "padding": 3, "steps": (4, 8), "epochs": 2, "iterations": 3, "pool_size": 16}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[8:32, 8:32] = (0, 200, 0, 255)
    Image.fromarray(pixels).save(folder / "square.png")
    return grow(GrowConfig(target=str(folder / "square.png"), out=str(folder / "square"), **QUICK), progress=False)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', page.read_text(), re.S)[1])


def test_growing_leaves_a_live_page_with_target_and_figures(run):
    data = data_of(run.folder / "live.html")
    assert data["title"] == "square"
    assert data["grid"] == [14, 14]
    assert data["horizon"] == 8
    assert data["targets"][0]["shape"] == [4, 14, 14]
    assert dict(data["figures"])["parameters"] == f"{run.network.num_trainable_parameters():,}"
    assert dict(data["figures"])["log10 error after 8 steps"] == f"{run.log10_errors[8]:.2f}"


def test_exporting_a_run_writes_the_best_network_and_the_figures_of_the_page_that_the_run_left(run, tmp_path):
    assert export_html(run.folder, tmp_path / "again.html") == tmp_path / "again.html"
    again, left = data_of(tmp_path / "again.html"), data_of(run.folder / "live.html")
    assert [epoch["epoch"] for epoch in left["epochs"]] == [1, 2]
    for name in ("cell", "title", "grid", "targets", "figures", "horizon", "epochs"):
        assert again[name] == left[name], name


def test_a_run_that_was_moved_needs_nothing_else(run, tmp_path):
    moved = shutil.copytree(run.folder, tmp_path / "elsewhere")
    (moved / "live.html").unlink()
    assert export_html(moved) == moved / "live.html"
    assert data_of(moved / "live.html")["targets"][0] is not None


def test_title_grid_and_weights_are_as_asked(run, tmp_path):
    page = export_html(run.folder, tmp_path / "page.html", title="Green", grid=(20, 30), weights="float16")
    data = data_of(page)
    assert (data["title"], data["grid"]) == ("Green", [20, 30])
    assert data["cell"]["layers"][0]["weight"]["type"] == "float16"
    assert page.stat().st_size < (run.folder / "live.html").stat().st_size


def test_a_single_checkpoint_is_exported_beside_itself(run, tmp_path):
    copy = shutil.copy(run.folder / "checkpoints" / "checkpoint_epoch_2.safetensors", tmp_path / "mine.pt")
    assert export_html(copy, grid=(16, 16)) == tmp_path / "live.html"
    data = data_of(tmp_path / "live.html")
    assert (data["title"], data["targets"]) == ("mine", [None])


def test_the_file_of_the_best_epoch_is_taken_before_newer_ones(run, tmp_path):
    moved = shutil.copytree(run.folder, tmp_path / "run")
    state = load_checkpoint(moved / "checkpoints" / "checkpoint_epoch_2.safetensors")
    state["best_weights"] = {name: torch.zeros_like(value) for name, value in state["network"].items()}
    save_checkpoint(state, moved / "checkpoints" / "checkpoint_best.safetensors")
    (moved / "checkpoints" / "checkpoint_epoch_2.safetensors").touch()
    assert data_of(export_html(moved))["cell"] != data_of(run.folder / "live.html")["cell"]


def test_no_run_no_checkpoint_and_a_foreign_file_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="there is no run .*nowhere"):
        export_html(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="contains no checkpoint"):
        export_html(tmp_path)
    (tmp_path / "checkpoint_1.safetensors").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint_1\.safetensors is not a readable checkpoint"):
        export_html(tmp_path)
