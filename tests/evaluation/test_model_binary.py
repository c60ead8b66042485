"""A binary classification is evaluated at the threshold that its validation data choose."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from delira_nca.errors import ConfigError
from delira_nca.evaluation import evaluate, evaluate_model_binary

RNG = np.random.default_rng(0)
TRUTH = {part: (RNG.random((4, 8)) < 0.4).astype(int) for part in ("valid", "train")}
SCORES = {part: np.clip(labels * 0.3 + RNG.random((4, 8)) * 0.7, 0, 1) for part, labels in TRUTH.items()}


def identity(x):
    return x


def test_the_threshold_of_validation_is_that_of_training():
    found = evaluate_model_binary(identity, "", None, SCORES["valid"], TRUTH["valid"], SCORES["train"], TRUTH["train"])
    assert found["valid"] == evaluate(TRUTH["valid"], SCORES["valid"])
    assert found["train"].thresh == found["valid"].thresh
    labels, scores = TRUTH["train"].ravel(), SCORES["train"].ravel()
    assert found["train"].roc_area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["train"].perf.f1 == pytest.approx(f1_score(labels, scores >= found["train"].thresh), abs=1e-12)


def test_ignored_labels_stay_ignored():
    labels = TRUTH["valid"].copy()
    labels[0] = -1
    found = evaluate_model_binary(identity, "", valid_d=SCORES["valid"], valid_l=labels)
    assert found["valid"] == evaluate(TRUTH["valid"][1:], SCORES["valid"][1:])


def test_data_may_be_attributes_and_figures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    data = SimpleNamespace(valid_d=SCORES["valid"], valid_l=TRUTH["valid"])
    found = evaluate_model_binary(identity, str(tmp_path / "run"), data)
    assert list(found) == ["valid"]
    assert [path.name for path in tmp_path.iterdir()] == ["run_valid.png"]


def test_parameters_of_beta_distributions_give_their_means():
    scores = SCORES["valid"]
    pair = np.stack([3 * scores + 0.3, 3 * (1 - scores) + 0.3])
    found = evaluate_model_binary(lambda x: pair, "", valid_d=scores, valid_l=TRUTH["valid"], betaloss=True)
    expected = evaluate(TRUTH["valid"], (3 * scores + 0.3) / 3.6)
    assert found["valid"].roc_area == pytest.approx(expected.roc_area)
    soft = evaluate_model_binary(identity, "", valid_d=scores, valid_l=TRUTH["valid"], fudgeysoft=True)
    assert 0 <= soft["valid"].thresh <= 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "nothing to evaluate"),
        ({"valid_d": SCORES["valid"]}, "valid_d and valid_l are given together"),
        ({"valid_d": SCORES["valid"], "valid_l": TRUTH["valid"], "betaloss": True}, "two positive arrays"),
        ({"model": 3}, "not a int"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(given, text):
    with pytest.raises(ConfigError, match=text):
        evaluate_model_binary(given.pop("model", identity), "", **given)
