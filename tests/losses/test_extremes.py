"""Every loss where it is hard: gradients against finite differences, empty and full masks, halves, doubles and NaN."""

import pytest
import torch

from delira_nca import losses

MASK = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
MASKS = torch.stack([MASK, MASK.T])[:, None].float()
CLASSES = torch.stack([MASK, 2 - 2 * MASK])
ALIVE = (MASK[None, None] > 0).expand(2, -1, -1, -1)

OF_MASKS = {"dice_bce": losses.dice_bce, "focal": losses.focal, "soft_dice": losses.soft_dice}
OF_PICTURES = {
    "gradient_l1": losses.gradient_l1,
    "mse": losses.mse,
    "per_sample_mse": losses.per_sample_mse,
    "psnr": losses.psnr,
    "rotation_invariant_mse": losses.rotation_invariant_mse,
    "shift_free_mse": losses.shift_free_mse,
    "sliced_transport": losses.SlicedTransport(num_projections=4, num_filters=4, num_levels=1),
    "texture_loss": losses.TextureLoss(num_projections=4, num_filters=4, num_levels=1, seed=0),
    "ssim": lambda pred, label: losses.ssim(pred, label, window=3),
}
OF_CLASSES = {
    "cell_cross_entropy": losses.cell_cross_entropy,
    "dice_ce": losses.dice_ce,
    "multiclass_dice": losses.multiclass_dice,
    "multiclass_focal": losses.multiclass_focal,
    "one_hot_l2": losses.one_hot_l2,
}
OF_STATES = {
    "hidden_penalty": losses.hidden_penalty,
    "overflow": losses.overflow,
    "overflow_squared": lambda state: losses.overflow(state, squared=True),
}
ALL = {**OF_MASKS, **OF_PICTURES, **OF_CLASSES, **OF_STATES}
HARD = {"accuracy", "agreement", "dice_score", "direction", "macro_accuracy", "multiclass_dice_score"}


def problem(name, noise, dtype=torch.float32):
    """Prediction, and the function of it that is minimised."""
    loss = ALL[name]
    if name in OF_MASKS:
        return noise(2, 1, 4, 4).to(dtype), lambda pred: loss(pred, MASKS)
    if name in OF_PICTURES:
        pred, label = noise(2, 1, 8, 8).to(dtype), noise(2, 1, 8, 8, seed=5).to(dtype)
        return pred, lambda pred: loss(pred, label).sum()
    if name in OF_CLASSES:
        return noise(2, 3, 4, 4).to(dtype), lambda pred: loss(pred, CLASSES)
    return 2 * noise(2, 3, 4, 4).to(dtype), loss


def test_every_loss_of_the_package_is_tried_here():
    named = {name.removesuffix("_squared") for name in ALL} - {"sliced_transport", "texture_loss"}
    named |= {"SlicedTransport", "TextureLoss"}
    others = HARD | {"abs_rel", "rmse", "within_ratio"}  # scores of depth
    others |= {"RMSE", "MacroAUROC", "MacroAccuracy", "MacroF1", "Metric"}  # metrics of sets, without gradients
    assert named == set(losses.__all__) - others


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name, noise):
    pred, loss = problem(name, noise, torch.float64)
    assert loss(pred).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, pred.requires_grad_(), eps=1e-7, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_prediction_that_is_no_number_has_no_number_as_its_loss(name, noise):
    pred, loss = problem(name, noise)
    pred[0, 0, 0, 1] = torch.nan
    if name == "rotation_invariant_mse":  # corners lie outside of its disc
        pred[0, 0] = torch.nan
    assert loss(pred).isnan()


@pytest.mark.parametrize("name", [*OF_MASKS, *OF_CLASSES])
def test_half_precision_is_computed_in_single(name, noise):
    pred, loss = problem(name, noise)
    pred = pred.bfloat16()
    expected = loss(pred.float())
    assert torch.allclose(loss(pred).float(), expected, rtol=1e-6 if name != "one_hot_l2" else 1e-2)


@pytest.mark.parametrize("name", OF_MASKS)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_masks_that_are_empty_or_full_can_be_learned(name, value, noise):
    pred, target = (3 * noise(2, 1, 4, 4)).requires_grad_(), torch.full((2, 1, 4, 4), value)
    OF_MASKS[name](pred, target).backward()
    assert pred.grad.isfinite().all()
    assert (pred.grad.sign() == 1 - 2 * value).all()
    assert OF_MASKS[name](60.0 * (2 * target - 1), target) < 1e-6


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_single_class_can_be_learned(name, noise):
    pred, label = noise(2, 3, 4, 4).requires_grad_(), torch.full((2, 4, 4), 1)
    OF_CLASSES[name](pred, label).backward()
    assert pred.grad.isfinite().all()
    assert (pred.grad[:, 1] < 0).all() or name == "one_hot_l2"


@pytest.mark.parametrize("loss", [losses.one_hot_l2, losses.cell_cross_entropy])
def test_where_nothing_lives_nothing_is_asked(loss, noise):
    pred = noise(2, 3, 4, 4).requires_grad_()
    total = loss(pred, CLASSES, torch.zeros(2, 1, 4, 4, dtype=torch.bool))
    total.backward()
    assert total == 0
    assert pred.grad.abs().max() == 0
    one_empty = ALIVE.clone()
    one_empty[1] = False
    assert torch.allclose(loss(pred, CLASSES, one_empty), loss(pred[:1], CLASSES[:1], ALIVE[:1]) / 2)


@pytest.mark.parametrize("name", [*OF_MASKS, "multiclass_focal", "dice_ce", "cell_cross_entropy"])
def test_logits_of_any_size_have_finite_losses_and_gradients(name):
    wrong = -1e4 * (2 * MASKS - 1) if name in OF_MASKS else -1e4 * torch.eye(3)[CLASSES].movedim(-1, 1)
    pred = wrong.requires_grad_()
    loss = OF_MASKS[name](pred, MASKS) if name in OF_MASKS else OF_CLASSES[name](pred, CLASSES)
    loss.backward()
    assert loss.isfinite()
    assert pred.grad.isfinite().all()


def test_a_score_of_what_is_no_number_is_none():
    pred, empty = torch.full((2, 1, 4, 4), torch.nan), torch.zeros(2, 1, 4, 4)
    assert losses.dice_score(-torch.ones_like(empty), empty) == 1
    assert losses.dice_score(pred, empty).isnan()
    pred[1] = -1.0
    assert losses.dice_score(pred, empty).isnan()  # one sample is enough
    assert losses.dice_score(torch.full_like(empty, -torch.inf), empty) == 1  # infinity is a decision
    logits, label = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    assert losses.multiclass_dice_score(logits, label) == 1
    assert losses.accuracy(logits, label) == 1
    logits[0, 0, 0, 0] = torch.nan
    assert losses.multiclass_dice_score(logits, label).isnan()
    assert losses.accuracy(logits, label).isnan()
    assert losses.macro_accuracy(logits, label).isnan()
