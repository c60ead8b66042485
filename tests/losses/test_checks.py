import pickle

import pytest
import torch

from delira_nca import losses
from delira_nca.errors import ShapeError
from delira_nca.losses.checks import class_labels, with_channel


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_labels_of_any_whole_type_with_or_without_an_axis_are_the_same(dtype):
    label = torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype)
    logits = torch.zeros(2, 4, 3)
    assert torch.equal(class_labels(logits, label), label.long())
    assert torch.equal(class_labels(logits, label[:, None]), label.long())


def test_a_label_of_one_channel_takes_the_shape_of_its_prediction(refuses):
    pred, label = torch.zeros(2, 1, 3, 4), torch.ones(2, 3, 4)
    assert torch.equal(with_channel(label, pred), label[:, None])
    assert torch.equal(with_channel(label[:, None], pred), label[:, None])
    for wrong in (torch.ones(2, 4, 3), torch.ones(1, 3, 4), torch.ones(2, 3, 3, 4)):
        refuses(ShapeError, "differ in shape", with_channel, wrong, pred)


def test_functions_are_known_by_the_path_of_the_package():
    """What a config file calls them does not tell in which file they are."""
    for name in losses.__all__:
        if not isinstance(getattr(losses, name), type):
            assert getattr(losses, name).__module__ == "delira_nca.losses"
        assert pickle.loads(pickle.dumps(getattr(losses, name))) is getattr(losses, name)


OF_NUMBERS = [
    "mse",
    "per_sample_mse",
    "rmse",
    "psnr",
    "gradient_l1",
    "shift_free_mse",
    "ssim",
    "rotation_invariant_mse",
]


@pytest.mark.parametrize("name", [*OF_NUMBERS, "soft_dice", "dice_bce", "focal"])
def test_a_label_of_booleans_is_one_of_0_and_1(name, noise):
    loss = getattr(losses, name)
    pred, label = noise(2, 1, 12, 12), noise(2, 1, 12, 12, seed=1) > 0
    assert torch.equal(loss(pred, label), loss(pred, label.float()))
