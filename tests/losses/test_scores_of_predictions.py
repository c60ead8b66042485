import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from delira_nca import losses
from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.losses import accuracy, agreement, direction, macro_accuracy, psnr


@pytest.mark.parametrize("shape", [(40,), (3, 5, 6)])
def test_accuracy_is_that_of_scikit_learn(noise, shape):
    logits = noise(shape[0], 4, *shape[1:])
    label = noise(*shape, seed=1).mul(10).long().abs() % 3  # class 3 is never right
    answers, truth = logits.argmax(1).flatten(), label.flatten()
    assert accuracy(logits, label).item() == pytest.approx(accuracy_score(truth, answers))
    macro = recall_score(truth, answers, labels=[0, 1, 2], average="macro")
    assert macro_accuracy(logits, label).item() == pytest.approx(macro)
    assert accuracy(logits, label[:, None], average="macro").item() == pytest.approx(macro)


def test_agreement_counts_samples_of_one_voice():
    votes = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert agreement(votes).item() == 0.5


def test_noise_ratio_is_its_formula(noise):
    pred, label = noise(3, 1, 4, 4), noise(3, 1, 4, 4, seed=1)
    errors = ((pred - label) ** 2).flatten(1).mean(1).numpy()
    assert psnr(pred, label, data_range=2.0).item() == pytest.approx(np.mean(10 * np.log10(4 / errors)), rel=1e-5)
    assert psnr(pred, pred).item() == np.inf


def test_every_score_says_which_way_is_better(refuses):
    assert {name: direction(getattr(losses, name)) for name in ("mse", "psnr", "ssim", "dice_score", "agreement")} == {
        "mse": "lowest",
        "psnr": "highest",
        "ssim": "highest",
        "dice_score": "highest",
        "agreement": "highest",
    }

    def own(pred, label):
        return pred

    refuses(ConfigError, "the better direction of own is unknown: give it an attribute direction", direction, own)
    own.direction = "lowest"
    assert direction(own) == "lowest"


def test_bad_arguments_are_refused(refuses):
    with pytest.raises(ConfigError, match="labels run from 0 to 2, but there are 2 classes: 0 to 1"):
        accuracy(torch.zeros(3, 2), torch.arange(3))
    with pytest.raises(UnknownNameError, match="unknown average 'mean'"):
        accuracy(torch.zeros(3, 2), torch.zeros(3).long(), average="mean")
    refuses(ShapeError, "differ in shape", psnr, torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ConfigError, match="data_range must be a number above 0, not 0"):
        psnr(torch.zeros(2, 1), torch.zeros(2, 1), data_range=0)
