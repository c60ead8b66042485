"""The job that grows a picture: what it refuses, leaves behind, exports, and resumes as if it had not been ended."""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.data_loading.sources import load_image, place
from delira_nca.errors import CheckpointError, ConfigError, MissingFileError, UnknownKeywordError, UnknownNameError
from delira_nca.experiment import QUALITIES, REGIMES, GrowConfig, Run, compare_runs, export_html, grow, resume_growing
from delira_nca.experiment.growing import GrowthPage, expected_seconds
from delira_nca.io import load_checkpoint, save_checkpoint
from delira_nca.logging import read_jsonl
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.rollout.native_library import INSTRUCTION_SETS

QUICK = {"size": 8, "padding": 3, "steps": (4, 8), "epochs": 2, "iterations": 3, "pool_size": 16}


def config(ring, folder, **changes):
    return GrowConfig(**{"target": str(ring), "out": str(folder), **QUICK, **changes})


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    """Picture of a green ring, transparent inside and outside."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    inside = (np.hypot(x, y) < 0.9) & (np.hypot(x, y) > 0.4)
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[inside] = (0, 200, 0, 255)
    path = tmp_path_factory.mktemp("picture") / "ring.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def grown(ring, tmp_path_factory):
    """Result of a run, the folder of which no test changes."""
    return grow(config(ring, tmp_path_factory.mktemp("runs") / "ring"), progress=False)


def test_run_leaves_film_page_preview_curves_checkpoints_and_the_errors_of_its_network(ring, grown):
    with Image.open(grown.folder / "film.gif") as film, Image.open(grown.folder / "preview.png") as preview:
        assert min(film.width, preview.width) >= 512
        assert film.n_frames > 8
    assert "log10 error after 8 steps" in (grown.folder / "live.html").read_text()
    records = read_jsonl(grown.folder / "metrics.jsonl")
    assert [r["epoch"] for r in records] == [1, 2]
    assert [r["step"] for r in records] == [3, 6]
    assert 0 < records[1]["lr"] <= 4e-3
    assert Run.open(grown.folder).config.model["init_args"]["steps"] == [4, 8]
    assert json.loads((grown.folder / "result.json").read_text())["outcome"]["figures"] == grown.figures()
    assert {f.name for f in (grown.folder / "checkpoints").iterdir()} >= {"checkpoint_epoch_2.safetensors"}
    assert (grown.folder / "curves.png").stat().st_size > 1000
    assert list((grown.folder / "events").iterdir())
    assert sorted(grown.log10_errors) == [8, 40, 400]
    target = torch.from_numpy(place(load_image(ring, 8), 14))
    picture = grown.network.predict(make_seed(16, (14, 14)).unsqueeze(0), 8, seed=0).pred[0]
    assert grown.log10_errors[8] == pytest.approx(math.log10(float(mse(picture, target))), abs=1e-6)


def test_equal_seeds_give_equal_weights_and_others_do_not(ring, grown, tmp_path):
    same, other = (grow(config(ring, tmp_path / str(seed), seed=seed), progress=False) for seed in (0, 1))
    weights, of_same, of_other = (result.network.rule.last.weight for result in (grown, same, other))
    assert torch.equal(weights, of_same)
    assert not torch.equal(weights, of_other)


def test_regimes_differ_in_the_pool(ring, grown, tmp_path):
    def callbacks_of(folder):
        return load_checkpoint(folder / "checkpoints" / "checkpoint_epoch_2.safetensors")["callbacks"]

    def train(regime):
        return grow(config(ring, tmp_path / regime, regime=regime), progress=False)

    assert "PoolUpdate" in callbacks_of(grown.folder)  # regenerates, by default
    assert "PoolUpdate" in callbacks_of(train("persistent").folder)
    assert "PoolUpdate" not in callbacks_of(train("growing").folder)


@pytest.mark.parametrize(("batch_size", "expected"), [(8, 3), (4, 1), (16, 6), (2, 1)])
def test_damage_keeps_the_share_of_the_article_in_any_batch(batch_size, expected):
    assert REGIMES["regenerating"].num_damaged(batch_size) == expected
    assert REGIMES["persistent"].num_damaged(batch_size) == 0


def test_default_folder_is_the_first_free_one(ring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = GrowConfig(target=str(ring), **{**QUICK, "epochs": 1})
    folders = [grow(given, progress=False).folder for _ in range(2)]
    assert folders == [tmp_path / "runs" / "ring", tmp_path / "runs" / "ring-2"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"regime": "persistant"}, UnknownNameError, "Did you mean 'persistent'"),
        ({"steps": (8, 4)}, ConfigError, r"low < high, not \(8, 4\)"),
        ({"size": 0}, ConfigError, "size must be a whole number from 1 to 2048, not 0"),
        ({"epochs": 1.5}, ConfigError, "epochs"),
        ({"padding": -1}, ConfigError, "padding"),
        ({"learning_rate": 0.0}, ConfigError, "learning_rate"),
        ({"pool_size": 4}, ConfigError, "batch of 8 cannot be drawn from a pool of 4"),
        ({"emoji": "x"}, ConfigError, "not both"),
        ({"precision": "bf16"}, UnknownNameError, "Did you mean 'bfloat16'"),
        ({"target": "lizzard"}, UnknownNameError, "Did you mean 'lizard'"),
        ({"target": "nowhere.png"}, MissingFileError, "nowhere.png"),
        ({"device": "cuda:99"}, ConfigError, "cuda:99"),
    ],
)
def test_bad_config_is_refused_before_anything_is_written(change, error, message, ring, tmp_path):
    with pytest.raises(error, match=message):
        grow(config(ring, tmp_path / "run", **{"batch_size": 8, **change}))
    assert not (tmp_path / "run").exists()


def test_a_picture_without_transparency_and_a_folder_with_a_run_are_refused(ring, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    with pytest.raises(ConfigError, match="no alpha channel.*convert"):
        grow(GrowConfig(target=str(tmp_path / "red.png"), out=str(tmp_path / "run"), **QUICK))
    assert not (tmp_path / "run").exists()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a run"):
        grow(config(ring, tmp_path))
    assert (tmp_path / "config.json").read_text() == "{}"


def test_qualities_are_settings_that_may_be_changed():
    assert GrowConfig.of_quality("good", target="fish") == GrowConfig(target="fish")
    assert GrowConfig.of_quality("fine", size=33).size == 33
    draft, good, fine = (GrowConfig.of_quality(name) for name in QUALITIES)
    assert draft.epochs < good.epochs < fine.epochs
    assert draft.size < good.size < fine.size
    with pytest.raises(UnknownNameError, match="Did you mean 'draft'"):
        GrowConfig.of_quality("drft")
    with pytest.raises(UnknownKeywordError, match="Did you mean 'size'"):
        GrowConfig.of_quality("draft", sizes=3)


@pytest.mark.parametrize(("built", "auto"), [(("portable", "avx2"), "float32"), (INSTRUCTION_SETS, "bfloat16")])
def test_bfloat16_is_for_processors_that_have_it(built, auto, monkeypatch):
    monkeypatch.setattr("delira_nca.experiment.growing.available", lambda: built)
    assert GrowConfig(device="cpu").checked().precision == "float32"
    assert GrowConfig(device="cpu", precision="auto").checked().precision == auto
    asked = GrowConfig(device="cpu", precision="bfloat16")
    if auto == "bfloat16":
        assert asked.checked().precision == "bfloat16"
    else:
        with pytest.raises(ConfigError, match="cpu has no instructions for bfloat16"):
            asked.checked()


def test_expected_seconds_grow_with_steps_and_iterations():
    network = BasicNCAModel(**presets.growing())
    assert network.num_trainable_parameters() == 8336  # as in the article
    weights = [p.detach().clone() for p in network.parameters()]
    short, long = expected_seconds(network, torch.ones(4, 8, 8), 2, 10, [8, 80])
    assert 0 < short < long
    assert all(map(torch.equal, weights, network.parameters()))


@pytest.mark.slow
def test_small_heart_grows_and_stays(tmp_path):
    config = GrowConfig(
        target="heart", size=16, padding=6, steps=(24, 36), epochs=16, iterations=40, out=str(tmp_path / "run")
    )
    result = grow(config, progress=False)
    assert result.log10_errors[36] < -1.8
    assert result.log10_errors[180] < -1.6


def test_a_run_that_fails_before_it_trains_leaves_its_folder_free(ring, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("mine")
    given = config(ring, tmp_path, epochs=1)

    def fail(*arguments, **options):
        raise RuntimeError("no network")

    with monkeypatch.context() as patch:
        patch.setattr("delira_nca.experiment.growing.save_picture", fail)
        with pytest.raises(RuntimeError):
            grow(given, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert grow(given, progress=False).folder == tmp_path


def test_numbers_of_numpy_are_settings():
    numbers = {"size": np.int64(12), "fire_rate": np.float32(0.5), "steps": (np.int64(4), 8)}
    config = GrowConfig(**numbers).checked()
    assert config == GrowConfig(size=12, fire_rate=0.5, steps=(4, 8)).checked()
    assert json.dumps(config.run_config("ring"))


def test_a_grown_picture_is_a_run_like_any_other(ring, grown, tmp_path):
    grow(config(ring, tmp_path / "runs" / "b", seed=1), progress=False)
    moved = shutil.copytree(grown.folder, tmp_path / "runs" / "moved")
    run = Run.open(moved)
    assert math.log10(run.validate()["mse"]) == pytest.approx(math.log10(run.train().best_score), abs=1e-6)
    assert torch.equal(run.network().rule.last.weight, grown.network.rule.last.weight)
    assert {r.name for r in compare_runs(tmp_path / "runs").runs} == {"moved", "b"}
    page = export_html(moved, tmp_path / "page.html").read_text()
    assert grown.figures()["log10 error after 8 steps"] in page


def test_a_run_that_is_stopped_early_returns_its_network_without_errors(ring, tmp_path, monkeypatch):
    monkeypatch.setattr(GrowthPage, "at_epoch_end", lambda self, trainer, **event: trainer.stop("enough", now=True))
    result = grow(config(ring, tmp_path / "run"), progress=False)
    assert (result.log10_errors, result.log10_errors_healing) == ({}, {})
    assert not (result.folder / "film.gif").exists()


OPTIONS = ("--size", "8", "--padding", "3", "--steps", "4", "8", "--iterations", "3", "--pool-size", "16")


def start(*arguments):
    command = [sys.executable, "-m", "delira_nca", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_ended_is_finished_as_if_it_had_not_been(ring, tmp_path, number, code):
    grow(config(ring, tmp_path / "straight" / "run", epochs=24), progress=False)
    process = start(
        "grow", "--target", ring, "--out", tmp_path / "run", "--epochs", 24, "--save-seconds", 0.1, *OPTIONS
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


def test_a_run_that_was_ended_before_its_first_checkpoint_begins_anew(ring, tmp_path):
    grow(config(ring, tmp_path / "run", epochs=1), progress=False)
    for file in (tmp_path / "run" / "checkpoints").iterdir():
        file.unlink()
    before = json.loads((tmp_path / "run" / "result.json").read_text())
    resume_growing(tmp_path / "run", progress=False)
    after = json.loads((tmp_path / "run" / "result.json").read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["versions"]["torch"] == torch.__version__
    with pytest.raises(ConfigError, match="already holds a run: .* or resume it"):
        grow(config(ring, tmp_path / "run", epochs=1), progress=False)


def test_what_is_no_run_is_named(grown, tmp_path):
    with pytest.raises(MissingFileError, match="there is no run .*nowhere"):
        resume_growing(tmp_path / "nowhere")
    shutil.copytree(grown.folder, tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").glob("*.safetensors"):
        file.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="checkpoint_epoch_2"):
        resume_growing(tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text() + "num_epoch: 3\n")
    with pytest.raises(ConfigError, match="Did you mean 'num_epochs'"):
        resume_growing(tmp_path / "run")
    path.rename(path.with_name("config.json"))
    with pytest.raises(ConfigError, match="is from an older version"):
        resume_growing(tmp_path / "run")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', page.read_text(), re.S)[1])


def test_growing_leaves_a_live_page_with_target_and_figures(grown):
    data = data_of(grown.folder / "live.html")
    assert data["title"] == "ring"
    assert data["grid"] == [14, 14]
    assert data["horizon"] == 8
    assert data["targets"][0]["shape"] == [4, 14, 14]
    assert dict(data["figures"])["parameters"] == f"{grown.network.num_trainable_parameters():,}"
    assert dict(data["figures"])["log10 error after 8 steps"] == f"{grown.log10_errors[8]:.2f}"


def test_exporting_a_run_writes_the_best_network_and_the_figures_of_the_page_that_the_run_left(grown, tmp_path):
    assert export_html(grown.folder, tmp_path / "again.html") == tmp_path / "again.html"
    again, left = data_of(tmp_path / "again.html"), data_of(grown.folder / "live.html")
    assert [epoch["epoch"] for epoch in left["epochs"]] == [1, 2]
    for name in ("cell", "title", "grid", "targets", "figures", "horizon", "epochs"):
        assert again[name] == left[name], name


def test_a_run_that_was_moved_needs_nothing_else(grown, tmp_path):
    moved = shutil.copytree(grown.folder, tmp_path / "elsewhere")
    (moved / "live.html").unlink()
    assert export_html(moved) == moved / "live.html"
    assert data_of(moved / "live.html")["targets"][0] is not None


def test_title_grid_and_weights_are_as_asked(grown, tmp_path):
    page = export_html(grown.folder, tmp_path / "page.html", title="Green", grid=(20, 30), weights="float16")
    data = data_of(page)
    assert (data["title"], data["grid"]) == ("Green", [20, 30])
    assert data["cell"]["layers"][0]["weight"]["type"] == "float16"
    assert page.stat().st_size < (grown.folder / "live.html").stat().st_size


def test_a_single_checkpoint_is_exported_beside_itself(grown, tmp_path):
    copy = shutil.copy(grown.folder / "checkpoints" / "checkpoint_epoch_2.safetensors", tmp_path / "mine.pt")
    assert export_html(copy, grid=(16, 16)) == tmp_path / "live.html"
    data = data_of(tmp_path / "live.html")
    assert (data["title"], data["targets"]) == ("mine", [None])


def test_the_file_of_the_best_epoch_is_taken_before_newer_ones(grown, tmp_path):
    moved = shutil.copytree(grown.folder, tmp_path / "run")
    state = load_checkpoint(moved / "checkpoints" / "checkpoint_epoch_2.safetensors")
    state["best_weights"] = {name: torch.zeros_like(value) for name, value in state["network"].items()}
    save_checkpoint(state, moved / "checkpoints" / "checkpoint_best.safetensors")
    (moved / "checkpoints" / "checkpoint_epoch_2.safetensors").touch()
    assert data_of(export_html(moved))["cell"] != data_of(grown.folder / "live.html")["cell"]


def test_no_run_no_checkpoint_and_a_foreign_file_are_named(tmp_path):
    with pytest.raises(MissingFileError, match="there is no run .*nowhere"):
        export_html(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="contains no checkpoint"):
        export_html(tmp_path)
    (tmp_path / "checkpoint_1.safetensors").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=r"checkpoint_1\.safetensors is not a readable checkpoint"):
        export_html(tmp_path)
