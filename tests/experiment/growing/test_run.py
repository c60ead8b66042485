"""The job that grows a picture: what it refuses, and what it leaves behind."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from delira_nca.data_loading.sources import load_image, place
from delira_nca.errors import ConfigError, MissingFileError, UnknownKeywordError, UnknownNameError
from delira_nca.experiment import QUALITIES, REGIMES, GrowConfig, Run, compare_runs, export_html, grow
from delira_nca.experiment.growing import GrowthPage, expected_seconds
from delira_nca.io import load_checkpoint
from delira_nca.logging import read_jsonl
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.rollout.native_library import INSTRUCTION_SETS

QUICK = {"size": 8, "padding": 3, "steps": (4, 8), "epochs": 2, "iterations": 3, "pool_size": 16}


@pytest.fixture
def ring(tmp_path):
    """Picture of a green ring, transparent inside and outside."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    inside = (np.hypot(x, y) < 0.9) & (np.hypot(x, y) > 0.4)
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[inside] = (0, 200, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "ring.png")
    return tmp_path / "ring.png"


def test_run_leaves_film_page_preview_curves_checkpoints_and_the_errors_of_its_network(ring, tmp_path):
    result = grow(GrowConfig(target=str(ring), out=str(tmp_path / "run"), **QUICK), progress=False)
    with Image.open(result.folder / "film.gif") as film, Image.open(result.folder / "preview.png") as preview:
        assert min(film.width, preview.width) >= 512
        assert film.n_frames > 8
    assert "log10 error after 8 steps" in (result.folder / "live.html").read_text()
    records = read_jsonl(result.folder / "metrics.jsonl")
    assert [r["epoch"] for r in records] == [1, 2]
    assert [r["step"] for r in records] == [3, 6]
    assert 0 < records[1]["lr"] <= 4e-3
    assert Run.open(result.folder).config.model["init_args"]["steps"] == [4, 8]
    assert json.loads((result.folder / "result.json").read_text())["outcome"]["figures"] == result.figures()
    assert {f.name for f in (result.folder / "checkpoints").iterdir()} >= {"checkpoint_epoch_2.safetensors"}
    assert (result.folder / "curves.png").stat().st_size > 1000
    assert list((result.folder / "events").iterdir())
    assert sorted(result.log10_errors) == [8, 40, 400]
    target = torch.from_numpy(place(load_image(ring, 8), 14))
    grown = result.network.predict(make_seed(16, (14, 14)).unsqueeze(0), 8, seed=0)
    assert result.log10_errors[8] == pytest.approx(math.log10(float(mse(grown.pred[0], target))), abs=1e-6)


def test_equal_seeds_give_equal_weights_and_others_do_not(ring, tmp_path):
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        config = GrowConfig(target=str(ring), out=str(tmp_path / f"run{number}"), seed=seed, **{**QUICK, "epochs": 1})
        weights.append(grow(config, progress=False).network.rule.last.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("regime", "pooled"), [("growing", False), ("persistent", True), ("regenerating", True)])
def test_regimes_differ_in_the_pool(regime, pooled, ring, tmp_path):
    result = grow(GrowConfig(target=str(ring), out=str(tmp_path / "run"), regime=regime, **QUICK), progress=False)
    state = load_checkpoint(result.folder / "checkpoints" / "checkpoint_epoch_2.safetensors")
    assert ("PoolUpdate" in state["callbacks"]) == pooled


@pytest.mark.parametrize(("batch_size", "expected"), [(8, 3), (4, 1), (16, 6), (2, 1)])
def test_damage_keeps_the_share_of_the_article_in_any_batch(batch_size, expected):
    assert REGIMES["regenerating"].num_damaged(batch_size) == expected
    assert REGIMES["persistent"].num_damaged(batch_size) == 0


def test_default_folder_is_the_first_free_one(ring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = GrowConfig(target=str(ring), **{**QUICK, "epochs": 1})
    folders = [grow(config, progress=False).folder for _ in range(2)]
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
    config = GrowConfig(**{"target": str(ring), "out": str(tmp_path / "run"), **QUICK, "batch_size": 8, **change})
    with pytest.raises(error, match=message):
        grow(config)
    assert not (tmp_path / "run").exists()


def test_a_picture_without_transparency_and_a_folder_with_a_run_are_refused(ring, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    with pytest.raises(ConfigError, match="no alpha channel.*convert"):
        grow(GrowConfig(target=str(tmp_path / "red.png"), out=str(tmp_path / "run"), **QUICK))
    assert not (tmp_path / "run").exists()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="already holds a run"):
        grow(GrowConfig(target=str(ring), out=str(tmp_path), **QUICK))
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
    config = GrowConfig(target=str(ring), out=str(tmp_path), **{**QUICK, "epochs": 1})

    def fail(*arguments, **options):
        raise RuntimeError("no network")

    with monkeypatch.context() as patch:
        patch.setattr("delira_nca.experiment.growing.save_picture", fail)
        with pytest.raises(RuntimeError):
            grow(config, progress=False)
    assert [path.name for path in tmp_path.iterdir() if path != ring] == ["notes.txt"]
    assert grow(config, progress=False).folder == tmp_path


def test_numbers_of_numpy_are_settings(ring, tmp_path):
    numbers = {"size": np.int64(12), "fire_rate": np.float32(0.5), "steps": (np.int64(4), 8)}
    config = GrowConfig(target=str(ring), **numbers).checked()
    assert config == GrowConfig(target=str(ring), size=12, fire_rate=0.5, steps=(4, 8)).checked()
    assert json.dumps(config.run_config("ring"))


def test_a_grown_picture_is_a_run_like_any_other(ring, tmp_path):
    result = grow(GrowConfig(target=str(ring), out=str(tmp_path / "runs" / "a"), **QUICK), progress=False)
    grow(GrowConfig(target=str(ring), out=str(tmp_path / "runs" / "b"), seed=1, **QUICK), progress=False)
    moved = (tmp_path / "runs" / "a").rename(tmp_path / "runs" / "moved")
    run = Run.open(moved)
    assert math.log10(run.validate()["mse"]) == pytest.approx(math.log10(run.train().best_score), abs=1e-6)
    assert torch.equal(run.network().rule.last.weight, result.network.rule.last.weight)
    assert {r.name for r in compare_runs(tmp_path / "runs").runs} == {"moved", "b"}
    page = export_html(moved, tmp_path / "page.html").read_text()
    assert result.figures()["log10 error after 8 steps"] in page


def test_a_run_that_is_stopped_early_returns_its_network_without_errors(ring, tmp_path, monkeypatch):
    monkeypatch.setattr(GrowthPage, "at_epoch_end", lambda self, trainer, **event: trainer.stop("enough", now=True))
    result = grow(GrowConfig(target=str(ring), out=str(tmp_path / "run"), **QUICK), progress=False)
    assert (result.log10_errors, result.log10_errors_healing) == ({}, {})
    assert not (result.folder / "film.gif").exists()
