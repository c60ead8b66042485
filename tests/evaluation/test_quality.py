import json
import math

import numpy as np
import pytest
from scipy import stats
from torch import nn

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.evaluation import NQM, QualityCase, QualityReport, add_artefact, nqm, quality_report, stochastic_runs
from delira_nca.losses import dice_score
from delira_nca.models import BasicNCAModel
from delira_nca.seeding import derive_seed


def report_of(pairs, failure_below=0.7):
    return QualityReport(tuple(QualityCase("noise", 1.0, n, 0, q, d) for n, (q, d) in enumerate(pairs)), failure_below)


@pytest.fixture
def model(randomise):
    made = BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1, hidden_size=8)
    return randomise(made, 0.3)


@pytest.fixture
def batch(noise):
    image = noise(2, 1, 8, 8).sigmoid()
    return image, (image > 0.5).float()


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.random(40), np.round(rng.random(40), 1)], 1)  # the rounded ones tie
    report = report_of(pairs.tolist())
    assert math.isclose(report.correlation, stats.pearsonr(*pairs.T)[0], abs_tol=1e-12)
    assert math.isclose(report.rank_correlation, stats.spearmanr(*pairs.T)[0], abs_tol=1e-12)


def test_failures_are_counted_and_told_by_their_doubt():
    report = report_of([(0.9, 0.1), (0.7, 0.3), (0.6, 0.2), (0.1, 0.8)])
    assert report.num_failures == 2
    assert report.auroc == 0.75
    without = report_of([(0.9, 0.1), (0.8, 0.2)])
    assert without.num_failures == 0
    assert math.isnan(without.auroc)
    constant = report_of([(0.0, 0.1), (0.0, 0.5)])
    assert math.isnan(constant.correlation)
    assert "correlation of quality and doubt nan" in str(constant)


def test_every_artefact_is_measured_in_every_strength_on_every_image(model, batch):
    estimator = NQM(model, N=2, steps=3)
    report = quality_report(
        model, *batch, estimator=estimator, artefacts=["noise", "blur"], strengths=[1, 0.5], draws=2
    )
    keys = [(c.artefact, c.strength, c.sample, c.draw) for c in report.cases]
    assert keys[:2] == [("none", 0.0, 0, 0), ("none", 0.0, 1, 0)]
    assert len(keys) == len(set(keys)) == 2 + 2 * 2 * 2 * 2
    assert {key[:2] for key in keys[2:]} == {(a, s) for a in ("noise", "blur") for s in (1.0, 0.5)}


def test_quality_and_doubt_of_a_case_are_those_of_its_image(model, batch):
    image, label = batch
    options = {"estimator": NQM(model, N=3, steps=4), "artefacts": ["noise"], "strengths": [0.7]}
    report, again, other = (quality_report(model, image, label, **options, seed=seed) for seed in (5, 5, 6))
    seen = add_artefact(image, "noise", 0.7, seed=derive_seed(5, 0))
    for sample in (0, 1):
        runs = stochastic_runs(model, seen[sample : sample + 1], 3, steps=4).predictions
        case = next(c for c in report.cases if (c.artefact, c.sample) == ("noise", sample))
        assert case.doubt == float(nqm(runs))
        assert case.quality == float(dice_score(runs.mean(0) - 0.5, label[sample : sample + 1]))
    assert again == report
    assert other.cases[:2] == report.cases[:2]
    assert other.cases[2].doubt != report.cases[2].doubt


class _Threshold(nn.Module):
    """A model that knows the task and whose doubt is how much of the image is grey."""

    def predict(self, image, *, seed=0):
        return 20 * (image - 0.5) + 0.0 * seed


def test_any_model_and_metric_will_do(batch):
    image, label = batch
    report = quality_report(_Threshold(), image, label, artefacts=["noise"], strengths=[1.0], metric=lambda p, t: 0.25)
    assert {case.quality for case in report.cases} == {0.25}
    clear = quality_report(_Threshold(), image, label, artefacts=["noise"], strengths=[1.0])
    assert clear.mean("none", 0.0) == (1.0, 0.0)
    assert clear.mean("noise", 1.0)[0] < 1.0
    assert all(map(math.isnan, clear.mean("blur", 1.0)))


def test_a_report_is_a_table_groups_and_plain_values(model, batch):
    estimator = NQM(model, N=2, steps=2)
    report = quality_report(model, *batch, estimator=estimator, artefacts=["bias", "spike"], strengths=[0.5, 1.0])
    lines = str(report).splitlines()
    quality, doubt = report.mean("spike", 1.0)
    assert lines[1].split() == ["0.5", "1"]
    assert lines[3].split()[0] == "spike"
    assert lines[3].split()[3:] == [f"{quality:.3f}", f"{doubt:.3f}"]
    groups = report.groups()
    assert {name: len(doubt) for name, (doubt, _) in groups.items()} == {"none": 2, "bias": 4, "spike": 4}
    assert groups["none"] == ([c.doubt for c in report.cases[:2]], [c.quality for c in report.cases[:2]])
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["num_failures"] == report.num_failures
    assert plain["cases"][0]["quality"] == report.cases[0].quality


def test_bad_input_is_refused_before_anything_is_predicted(batch):
    image, label = batch
    for images, labels, options, error, message in (
        (image, label[:1], {}, ShapeError, "not 2 and 1"),
        (image[:0], label[:0], {}, ShapeError, "not 0 and 0"),
        (image, label, {"draws": 0}, ConfigError, "draws must be a whole number of at least 1, not 0"),
        (image, label, {"artefacts": ["noise", "goats"]}, UnknownNameError, "unknown artefact 'goats'"),
        (image, label, {"strengths": [-1]}, ConfigError, "a strength must be a number of at least 0, not -1"),
    ):
        with pytest.raises(error, match=message):
            quality_report(nn.Identity(), images, labels, **options)
