"""Choice of steps, threshold and smallest component, and predictions with them."""

import json

import numpy as np
import pytest
from PIL import Image

from delira_nca.errors import ConfigError
from delira_nca.segmentation import Preprocessing, Segmenter, predict_folder, segment
from delira_nca.segmentation.data import whole_cases
from delira_nca.segmentation.scores import mean_dice
from delira_nca.segmentation.segmenter import classes_of, without_small
from delira_nca.segmentation.sweep import sweep


def opened(result):
    segmenter = Segmenter.open(result.folder)
    return segmenter, whole_cases(
        segmenter.source, vars(segmenter.preprocessing), "valid", str(result.folder / "splits.json")
    )


@pytest.mark.parametrize("kind", ["pictures", "volumes"])
def test_the_report_contains_the_score_of_each_number_of_steps(kind, request):
    result, _ = request.getfixturevalue(f"trained_{kind}")
    segmenter, cases = opened(result)
    found = json.loads((result.folder / "scores.json").read_text())["sweep"]
    assert found["horizon"] == segmenter.horizon == (25 if kind == "pictures" else 10)
    numbers = [int(number) for number in found["dice_by_steps"]]
    assert numbers[0] < found["horizon"] < numbers[-1] == 4 * found["horizon"]
    case = cases.raw(0)
    states = segmenter.states(case.data, case.spacing, numbers)
    values = segmenter.preprocessing.values[1:]
    for number, whole in zip(numbers, states, strict=True):
        mask = segmenter.preprocessing.mask(classes_of(whole))
        assert mean_dice(mask, case.label, values) == pytest.approx(found["dice_by_steps"][str(number)]), number
    assert (found["best"]["threshold"] is None) == (kind == "volumes")
    assert found["best"]["dice"] >= max(found["dice_by_steps"].values())
    page = (result.folder / "report.html").read_text()
    assert ("is stable" if found["is_stable"] else "is not stable beyond its horizon") in page


def test_the_best_setting_removes_a_speck():
    class Fixed:
        """Segmenter that always finds the object and a speck, the latter with lower probability."""

        horizon = 4

        def states(self, image, spacing, steps):
            foreground = np.where(image[0] > 0, 0.9, 0.2).astype(np.float32)
            foreground[0, :12] = 0.6
            return [np.stack([1 - foreground, foreground])] * len(steps)

    result, wanted = Fixed(), np.zeros((20, 20), np.int64)
    wanted[5:15, 5:15] = 1

    class Cases:
        preprocessing = type(
            "Plain", (), {"instances": False, "values": [0, 1], "num_classes": 2, "mask": staticmethod(lambda x: x)}
        )

        def __len__(self):
            return 2

        def raw(self, number):
            return type("Case", (), {"data": wanted[None].astype(np.float32), "spacing": None, "label": wanted})

    found = sweep(result, Cases())
    assert found.dice[4] == pytest.approx(200 / 212)
    assert found.best["dice"] == 1.0
    assert found.best["threshold"] > 0.5 or found.best["min_size"] > 12
    assert found.is_stable


def test_small_components_of_each_class_are_removed():
    mask = np.zeros((6, 10), np.int64)
    mask[0, :3], mask[2:5, :4], mask[2:5, 6:8] = 1, 1, 2
    assert without_small(mask, 1) is mask
    kept = without_small(mask, 4)
    assert kept[0].max() == 0
    assert (kept[2:] == mask[2:]).all()
    assert set(np.unique(without_small(mask, 7))) == {0, 1}


def test_predictions_take_the_tuned_settings_or_given_ones(trained_pictures, tmp_path):
    result, folder = trained_pictures
    best = json.loads((result.folder / "scores.json").read_text())["sweep"]["best"]
    tuned = Segmenter.open(result.folder, tuned=True)
    assert {name: getattr(tuned, name) for name in ("steps", "threshold", "min_size")} == {
        name: best[name] for name in ("steps", "threshold", "min_size")
    }
    assert Segmenter.open(result.folder, tuned=True, threshold=0.3).threshold == 0.3
    images, sizes = folder / "images", []
    for number, threshold in enumerate((0.1, 0.5, 0.9)):
        [first, *_] = predict_folder(result.folder, images, tmp_path / str(number), threshold=threshold)
        sizes.append(first.sizes[1])
    assert sizes[0] > sizes[1] > sizes[2] > 0
    [first, *_] = predict_folder(result.folder, images, tmp_path / "none", min_size=10_000)
    assert first.sizes[1] == 0


def test_settings_that_cannot_work_are_refused(trained_pictures, trained_volumes, tmp_path):
    result, _ = trained_pictures
    for options, message in (
        ({"threshold": 1.0}, "threshold"),
        ({"steps": 0}, "steps"),
        ({"min_size": 0}, "min_size"),
        ({"num_runs": 1}, "num_runs"),
    ):
        with pytest.raises(ConfigError, match=message):
            Segmenter.open(result.folder, **options)
    with pytest.raises(ConfigError, match="single class"):
        Segmenter.open(trained_volumes[0].folder, threshold=0.4)


def test_tiles_give_the_masks_and_doubts_of_one_another(trained_pictures):
    result, folder = trained_pictures
    image = np.asarray(Image.open(folder / "images" / "case2.png"), np.float32)[None]
    small, large = (Segmenter.open(result.folder, tile=cells)(image) for cells in (16, 30))
    assert (small.mask == large.mask).all()
    np.testing.assert_allclose(small.probabilities, large.probabilities, atol=1e-5)
    assert small.doubt == pytest.approx(large.doubt, rel=1e-3)
    whole = Segmenter.open(result.folder)(image)
    assert mean_dice(small.mask, whole.mask, [1]) > 0.95


def test_folds_hold_out_each_case_once_and_predict_together(pictures, tmp_path):
    options = {"folds": 2, "epochs": 2, "iterations": 8, "progress": False}
    result = segment(pictures / "images", pictures / "masks", tmp_path / "run", **options)
    held = [json.loads((tmp_path / "run" / f"fold{k}" / "splits.json").read_text())["valid"] for k in (1, 2)]
    assert sorted(held[0] + held[1]) == [f"case{number}" for number in range(4)]
    scores = json.loads((result.folder / "scores.json").read_text())
    assert sorted(scores["cases"]) == sorted(held[0] + held[1])
    assert result.dice == pytest.approx(np.mean([rows["1"]["dice"] for rows in scores["cases"].values()]))
    image = np.asarray(Image.open(pictures / "images" / "case0.png"), np.float32)[None]
    both, one, other = (
        Segmenter.open(part)(image).probabilities
        for part in (result.folder, result.folder / "fold1", result.folder / "fold2")
    )
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-5)
    assert len(predict_folder(result.folder, pictures / "images", tmp_path / "masks")) == 4
    with pytest.raises(ConfigError, match="no tuned settings"):
        Segmenter.open(result.folder, tuned=True)
    with pytest.raises(ConfigError, match="other cases"):
        segment(pictures / "images", pictures / "masks", tmp_path / "run", **{**options, "folds": 3})
    again = segment(pictures / "images", pictures / "masks", tmp_path / "run", **options)  # resumes: nothing is left
    assert again.dice == pytest.approx(result.dice)
    with pytest.raises(ConfigError, match="folds"):
        segment(pictures / "images", pictures / "masks", tmp_path / "other", **{**options, "folds": 5})


def test_stable_training_takes_random_numbers_of_steps(pictures, tmp_path):
    options = {"epochs": 1, "iterations": 2, "progress": False}
    network = segment(pictures / "images", pictures / "masks", tmp_path / "run", stable=True, **options).network
    assert (network.training_timesteps, network.inference_timesteps) == ((22, 60), 25)


def test_each_fold_of_an_ensemble_has_its_own_statistics(trained_pictures):
    network = trained_pictures[0].network
    image = np.random.default_rng(0).normal(50, 10, (1, 20, 20)).astype(np.float32)
    parts = []
    for mean in (40.0, 60.0):
        statistics = [{"low": 0.0, "high": 100.0, "mean": mean, "std": 10.0}]
        parts.append(Preprocessing([0, 1], normalisation=["clip_zscore"], statistics=statistics))
    both = Segmenter([network, network], parts)(image).probabilities
    one, other = (Segmenter(network, part)(image).probabilities for part in parts)
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-5)
    assert np.abs(one - other).max() > 1e-3
