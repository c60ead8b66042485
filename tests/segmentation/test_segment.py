"""The whole way: a folder of images becomes a run with a plan, a report and scores."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.errors import ConfigError, ExportError
from delira_nca.experiment import Experiment, Parameters, Run, RunConfig, export_html, summarise
from delira_nca.models import BasicNCAModel
from delira_nca.segmentation import (
    Fingerprint,
    Segmenter,
    augmentation,
    make_plan,
    open_cases,
    predict_folder,
    segment,
)
from delira_nca.segmentation.plan import _batch_size, commented

OPTIONS = {"epochs": 3, "iterations": 20, "progress": False}


def test_a_run_leaves_report_scores_and_plan(trained_pictures):
    result, _ = trained_pictures
    assert result.dice > 0.5
    page = (result.folder / "report.html").read_text()
    assert "http-equiv" not in page
    assert "https://" not in page.replace("http://www.w3.org", "")
    held = json.loads((result.folder / "splits.json").read_text())
    [name] = held["valid"]
    assert len(held["train"]) == 3
    assert f"{name}, the only case: Dice {result.dice:.3f}" in page
    rows = list(csv.DictReader((result.folder / "scores.csv").read_text().splitlines()))
    assert [(row["case"], row["class"]) for row in rows] == [(name, "1")]
    assert float(rows[0]["dice"]) == pytest.approx(result.dice, abs=1e-5)
    found = json.loads((result.folder / "scores.json").read_text())
    assert found["dice"] == pytest.approx(result.dice)
    low, high = found["interval"]["1"]["dice"]
    assert low == high == pytest.approx(result.dice)  # of one case


def page_data(file):
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', file.read_text(), re.S)
    return json.loads(found[1])


def test_the_report_links_to_a_live_page_of_held_out_cases_which_export_writes_as_well(trained_pictures, tmp_path):
    result, _ = trained_pictures
    assert '<a href="live.html">Watch it segment</a>' in (result.folder / "report.html").read_text()
    left = page_data(result.folder / "live.html")
    assert [case["name"] for case in left["cases"]] == json.loads((result.folder / "splits.json").read_text())["valid"]
    assert left["horizon"] == result.network.inference_timesteps == 25
    assert left["grid"] == left["cases"][0]["image"]["shape"][1:]
    again = page_data(export_html(result.folder, tmp_path / "again.html"))
    for name in ("title", "cell", "cases", "grid", "horizon", "randomSeed"):
        assert again[name] == left[name], name


def test_the_run_is_one_like_any_other(trained_pictures):
    result, _ = trained_pictures
    run = Run.open(result.folder)
    assert run.validate()["dice"] > 0.5
    assert summarise(run.folder).state == "done"
    network = run.network()
    for name, tensor in result.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_the_plan_is_a_config_with_reasons_that_trains_to_the_same_weights(trained_pictures, tmp_path):
    result, _ = trained_pictures
    text = (result.folder / "plan.yaml").read_text()
    assert text.count("  # ") >= 8
    values = yaml.safe_load(text)
    assert RunConfig.from_dict(values, result.folder) == Run.open(result.folder).config
    (tmp_path / "plan.yaml").write_text(text)
    (tmp_path / "splits.json").write_bytes((result.folder / "splits.json").read_bytes())
    again = Run.create(RunConfig.from_file(tmp_path / "plan.yaml", {"name": "again"}, tmp_path), tmp_path)
    again.train()
    network = again.network()
    for name, tensor in result.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)
    assert (tmp_path / "again" / "report.html").is_file()
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_run_that_is_killed_is_finished_with_the_same_masks_to_the_last_bit(trained_pictures, tmp_path):
    result, folder = trained_pictures
    code = (
        "import sys; from delira_nca.segmentation import segment; images, masks, out = sys.argv[1:]; "
        f"segment(images, masks, out, **{OPTIONS})"
    )
    command = [sys.executable, "-c", code, folder / "images", folder / "masks", tmp_path / "run"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    first = tmp_path / "run" / "checkpoints" / "manifest.json"
    end = time.monotonic() + 60
    while not first.is_file() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    Run.open(tmp_path / "run").train()
    for name, run in (("one", result.folder), ("other", tmp_path / "run")):
        predict_folder(run, folder / "images", tmp_path / name)
    for path in (tmp_path / "one").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    assert (tmp_path / "run" / "scores.json").read_bytes() == (result.folder / "scores.json").read_bytes()


def test_a_training_in_minutes_fits_its_length_to_the_speed(pictures, tmp_path):
    begin = time.monotonic()
    result = segment(pictures / "images", pictures / "masks", tmp_path / "run", minutes=0.08, progress=False)
    config = Run.open(result.folder).config
    assert time.monotonic() - begin < 40
    assert config.num_epochs >= 3
    page = (result.folder / "report.html").read_text()
    assert f"Trained for {config.num_epochs} epochs." in page


def test_the_page_shows_the_training_while_it_runs(pictures, tmp_path, monkeypatch):
    from delira_nca.segmentation import report

    pages = []
    render = report.render

    def keep(**options):
        pages.append(options)
        return render(**options)

    monkeypatch.setattr(report, "render", keep)
    made = report.SegmentationReport.__init__
    monkeypatch.setattr(
        report.SegmentationReport, "__init__", lambda self, *a, **k: made(self, *a, **{**k, "every": 0.0})
    )
    segment(pictures / "images", pictures / "masks", tmp_path / "run", epochs=3, iterations=2, progress=False)
    assert [page["refresh"] for page in pages] == [10, 10, 10, None]
    assert pages[1]["status"].startswith("Epoch 1 of 3. About ")
    assert [len(page["found"]) for page in pages] == [0, 1, 1, 1]
    assert [page["summary"] is None for page in pages] == [True, True, True, False]


def test_volumes_get_one_grid_and_several_classes(trained_volumes):
    result, _ = trained_volumes
    config = Run.open(result.folder).config
    preprocessing = config.data["train"]["init_args"]["preprocessing"]
    assert preprocessing["values"] == [0, 1, 2]
    assert preprocessing["spacing"] is not None
    assert config.model["init_args"]["levels"] == 2
    assert config.data["transforms"]["init_args"]["rotate"] is False
    found = json.loads((result.folder / "scores.json").read_text())
    assert set(found["mean"]) == {"1", "2"}
    page = (result.folder / "report.html").read_text()
    for name in ("large", "small"):
        assert f"<td>{name}</td>" in page


def test_a_network_that_a_live_page_does_not_support_has_none_and_the_report_says_why(trained_volumes):
    result, _ = trained_volumes
    reason = "a live page shows a BasicNCAModel, not a PyramidNCA"
    assert f"There is no live page: {reason}." in (result.folder / "report.html").read_text()
    assert not (result.folder / "live.html").exists()
    with pytest.raises(ExportError, match=reason):
        export_html(result.folder)


def test_instances_become_one_class(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        mask = np.zeros((64, 64), np.uint16)
        for index in range(12):
            row, column = 16 * (index // 4) + 4, 16 * (index % 4) + 4
            mask[row : row + 8, column : column + 8] = 100 * number + index + 1
        image = np.clip(50 + 150 * (mask > 0) + rng.normal(0, 10, mask.shape), 0, 255)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "images" / f"{number}.png")
    fingerprint = Fingerprint.of(open_cases(tmp_path / "images", tmp_path / "masks"))
    plan = make_plan(fingerprint)
    assert plan.preprocessing.instances
    assert plan.network["num_classes"] == 2
    assert "masks number up to 212 objects" in plan.reasons["data.train.init_args.preprocessing.values"]


def test_cases_of_a_group_stay_together(pictures):
    fingerprint = Fingerprint.of(open_cases(pictures / "images", pictures / "masks"))
    groups = {"case0": "a", "case1": "b", "case2": "a", "case3": "b"}
    for seed in range(5):
        splits = make_plan(fingerprint, groups=groups, seed=seed).splits
        assert sorted(splits["train"] + splits["valid"]) == sorted(groups)
        assert {groups[name] for name in splits["train"]}.isdisjoint(groups[name] for name in splits["valid"])
    assert len({tuple(make_plan(fingerprint, seed=seed).splits["valid"]) for seed in range(8)}) > 1


def test_reasons_stand_above_their_entries():
    values = {"a": {"b": [1, {"c": 2}], "d": {}}, "e": "text: x"}
    text = commented(values, {"a": "why", "a.b": "because", "e": "so"})
    assert yaml.safe_load(text) == values
    lines = text.splitlines()
    assert lines[:3] == ["# why", "a:", "  # because"]
    assert lines[lines.index("# so") + 1].startswith("e: ")


def test_a_run_that_does_not_segment_is_refused(tmp_path):
    from delira_nca.errors import ConfigError, MissingFileError

    model = {"class_path": "delira_nca.models.build_model", "init_args": {"preset": "growing"}}
    data = {"train": {"class_path": "delira_nca.data_loading.growing_dataset", "init_args": {"size": 6, "padding": 1}}}
    task = {"criterions": {"mse": "delira_nca.losses.mse"}}
    run = Run.create(RunConfig("grows", model, data, task, num_epochs=1), tmp_path)
    with pytest.raises(ConfigError, match="does not segment folders of images"):
        Segmenter.open(run.folder)
    with pytest.raises(MissingFileError):
        Segmenter.open(tmp_path / "nothing")


def test_the_example_of_the_command_line(pictures, tmp_path, monkeypatch, capsys):
    from delira_nca.cli import main

    monkeypatch.chdir(tmp_path)
    groups = Path("groups.csv")
    groups.write_text("case,group\n" + "".join(f"case{n},{'ab'[n % 2]}\n" for n in range(4)))
    data = [str(pictures / "images"), str(pictures / "masks")]
    short = ["--epochs", "1", "--iterations", "3", "--groups", "groups.csv"]
    assert main(["segment", *data, "--out", "runs/discs", *short]) == 0
    out = capsys.readouterr().out
    assert "mean Dice of the held-out cases: 0." in out
    assert "runs/discs/report.html" in out
    assert main(["predict", "runs/discs", data[0], "--out", "masks", "--doubt"]) == 0
    assert "masks/cases.csv" in capsys.readouterr().out
    assert len(list(Path("masks").glob("case?.png"))) == 4
    assert main(["predict", "runs/discs", data[0]]) == 2
    assert "give --out, the folder of the masks" in capsys.readouterr().err
    assert main(["predict", "runs/discs", "--doubt"]) == 2
    assert "--doubt has no effect without a folder of images" in capsys.readouterr().err
    groups.write_text("name,patient\n")
    assert main(["segment", *data, "--groups", "groups.csv"]) == 2
    assert "needs the columns case and group" in capsys.readouterr().err
    assert main(["validate", "runs/discs"]) == 0
    assert main(["show", "runs/discs"]) == 0


def test_every_class_is_trained_on_if_the_cases_allow_it(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(6):
        mask = np.zeros((20, 20), np.uint8)
        mask[4:8, 4:8] = 1
        if number in (0, 3):
            mask[12:16, 12:16] = 2
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(60 * mask + 20).save(tmp_path / "images" / f"{number}.png")
    fingerprint = Fingerprint.of(open_cases(tmp_path / "images", tmp_path / "masks"))
    for seed in range(6):
        splits = make_plan(fingerprint, valid=0.34, seed=seed).splits
        for part in splits.values():
            assert {"0", "3"} & set(part)
        assert make_plan(fingerprint, instances=True).preprocessing.instances


def test_statistics_of_ct_are_those_of_the_foreground_of_the_training_cases(make_volumes, tmp_path):
    import nibabel

    folder = make_volumes(tmp_path, ("plain", "anisotropic", "oblique"))
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**description, "channel_names": {"0": "CT"}}))
    path = folder / "labelsTr" / "oblique.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    fingerprint = Fingerprint.of(open_cases(folder))
    plan = make_plan(fingerprint)
    assert plan.preprocessing.normalisation == ["clip_zscore"]
    [found] = plan.preprocessing.statistics
    facts = {case.name: case.intensities[0] for case in fingerprint.cases}
    used = [facts[name] for name in plan.splits["train"] if name != "oblique"]
    assert found["mean"] == pytest.approx(np.mean([row["mean"] for row in used]))
    assert found["low"] > 250


def test_patches_have_the_size_of_resampled_volumes(tmp_path):
    import nibabel

    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    for number in range(3):
        mask = np.zeros((32, 32, 24), np.uint8)
        mask[8:20, 8:20, 6:18] = 1
        for name, array in (("i", 100.0 * mask + number), ("m", mask)):
            volume = nibabel.Nifti1Image(array.astype("f4" if name == "i" else "u1"), np.diag([1.0, 1, 3, 1]))
            nibabel.save(volume, tmp_path / name / f"{number}.nii.gz")
    plan = make_plan(Fingerprint.of(open_cases(tmp_path / "i", tmp_path / "m")))
    assert plan.preprocessing.spacing == [3.0, 3.0, 3.0]
    assert max(plan.patch_size[:2]) <= 12


def test_longer_trainings_of_volumes_have_a_finer_grid(volumes, monkeypatch):
    monkeypatch.setattr("delira_nca.segmentation.plan._VOLUMES", (500, 2000))
    monkeypatch.setattr("delira_nca.segmentation.plan._CELLS_PER_MINUTE", 100)
    monkeypatch.setattr("delira_nca.segmentation.plan._THIN", 8)
    fingerprint = Fingerprint.of(open_cases(volumes))
    sizes = [make_plan(fingerprint, minutes=minutes).preprocessing.spacing[0] for minutes in (1, 5, 10, 20, 60)]
    assert sizes[0] == sizes[1] > sizes[2] > sizes[3] == sizes[4] > 1
    monkeypatch.setattr("delira_nca.segmentation.plan._THIN", 18)
    first, second, third = make_plan(fingerprint, minutes=1).preprocessing.spacing
    assert first == third < second  # two axes have at most 18 cells


def test_volumes_of_a_patient_are_deformed_and_other_images_mirrored(volumes, tmp_path):
    anatomical = make_plan(Fingerprint.of(open_cases(volumes)))
    assert (anatomical.mirror, anatomical.rotate, anatomical.deform) == ((), False, True)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(2):
            cells = np.zeros((12, 20, 30), np.uint8)
            cells[3:6, 4:9, 8 + number : 14] = 1
            np.save(tmp_path / name / f"{number}.npy", cells)
    plan = make_plan(Fingerprint.of(open_cases(tmp_path / "images", tmp_path / "masks")))
    assert (plan.mirror, plan.rotate, plan.deform) == ((0, 1, 2), True, False)
    assert plan.patch_size[1] == plan.patch_size[2]


def test_a_deformation_keeps_labels_whole_and_beside_their_image():
    transform = augmentation(3, deform=True, intensities=False)
    label = np.zeros((8, 1, 16, 16, 16), np.int64)
    label[:, :, 4:12, 5:11, 6:13] = 3
    batch = {"data": label.astype(np.float32), "label": label}
    np.random.seed(0)
    found = transform(**batch)
    assert found["label"].dtype == np.int64
    assert set(np.unique(found["label"])) == {0, 3}
    changed = (found["label"] != label).reshape(8, -1).any(1)
    assert 0 < changed.sum() < 8
    inside = (found["data"] > 1.5) == (found["label"] == 3)
    assert inside.mean() > 0.99


def test_an_experiment_with_the_parts_of_the_plan_has_the_same_weights(trained_pictures, tmp_path):
    result, _ = trained_pictures
    parts = Run.open(result.folder).config.build()
    plan = Run.open(result.folder).config
    training = {
        "num_epochs": plan.num_epochs,
        "batch_size": plan.data["batch_size"],
        "criterions": parts.task.criterions,
        "optimizer_cls": torch.optim.Adam,
        "optimizer_params": {"lr": plan.trainer["lr"]},
        "lr_scheduler_cls": torch.optim.lr_scheduler.CosineAnnealingLR,
        "lr_scheduler_params": plan.trainer["lr_scheduler_params"],
        "metrics": parts.task.metrics,
        "seed": plan.run_seed,
    }
    model = {
        "num_image_channels": 1,
        "num_hidden_channels": 14,
        "num_output_channels": 1,
        "hidden_size": 64,
        "training_timesteps": (22, 29),
        "inference_timesteps": 25,
    }
    experiment = Experiment(
        Parameters(fixed_params={"model": model, "training": training}),
        BasicNCAModel,
        name="same",
        save_path=tmp_path,
        val_score_key="dice",
        val_score_mode="highest",
        callbacks=parts.callbacks[:-1],  # without the report
    )
    options = {"transforms": parts.data.transforms, "sampler_cls": RandomSampler, "seed": plan.run_seed}
    train = DataManager(parts.data.train, plan.data["batch_size"], **options)
    network = experiment.run(train, DataManager(parts.data.valid, 1))
    for name, tensor in result.network.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
def test_less_memory_gives_fewer_patches_per_iteration(kind, request):
    folder = request.getfixturevalue(kind)
    where = (folder / "images", folder / "masks") if kind == "pictures" else (folder,)
    fingerprint = Fingerprint.of(open_cases(*where))
    plan = make_plan(fingerprint)
    assert plan.batch_size == (8 if kind == "pictures" else 4)
    _, needed = _batch_size(plan.network, plan.patch_size, plan.batch_size, 4)
    smaller = make_plan(fingerprint, memory=0.7 * needed)
    assert 1 <= smaller.batch_size < plan.batch_size
    assert smaller.patch_size == plan.patch_size
    with pytest.raises(ConfigError, match="cells needs up to .* GB, memory is 1e-05 GB"):
        make_plan(fingerprint, memory=1e-5)
