import numpy as np
import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import dice_ce, dice_score, multiclass_dice, multiclass_dice_score, soft_dice


def labels(*shape, classes=3, seed=0):
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 5, 6), (2, 4, 3, 5), (4, 7)])
@pytest.mark.parametrize("include_background", [True, False])
def test_multiclass_dice_is_its_formula_for_each_sample_and_class(noise, shape, include_background):
    logits, label = noise(shape[0], 3, *shape[1:]), labels(*shape)
    p = np.exp(logits.double().log_softmax(1).numpy())
    each = []
    for n in range(shape[0]):
        for k in range(0 if include_background else 1, 3):
            g = label[n].numpy() == k
            each.append(1 - (2 * (p[n, k] * g).sum() + 1) / (p[n, k].sum() + g.sum() + 1))
    loss = multiclass_dice(logits, label, include_background=include_background)
    assert loss.item() == pytest.approx(np.mean(each), rel=1e-5)
    assert torch.equal(loss, multiclass_dice(logits, label.unsqueeze(1), include_background=include_background))


def test_dice_and_cross_entropy_of_classes_are_added(noise):
    logits, label = noise(2, 4, 5, 5), labels(2, 5, 5, classes=4)
    expected = multiclass_dice(logits, label, smooth=0.5) + F.cross_entropy(logits, label)
    assert dice_ce(logits, label, smooth=0.5).item() == pytest.approx(expected.item())


def test_the_gradient_leads_to_the_label():
    logits, label = torch.zeros(1, 3, 4, requires_grad=True), torch.tensor([[0, 1, 2, 2]])
    multiclass_dice(logits, label).backward()
    assert torch.equal((-logits.grad).argmax(1), label)


def test_dice_of_a_mask_pair_is_the_closed_form_of_all_its_cells():
    a, b = torch.zeros(1, 1, 6, 8), torch.zeros(1, 1, 6, 8)
    a[..., 1:4, 1:7], b[..., 2:5, 3:8] = 1, 1  # 18 and 15 cells, 8 in common
    logits = 20 * (2 * a - 1)
    assert dice_score(logits, b).item() == pytest.approx(2 * 8 / (18 + 15))
    assert soft_dice(logits, b).item() == pytest.approx(1 - (2 * 8 + 1) / (18 + 15 + 1), rel=1e-5)
    of_classes = torch.cat([-logits, logits], 1)
    assert multiclass_dice_score(of_classes, b.long()).item() == pytest.approx(2 * 8 / (18 + 15))


@pytest.mark.parametrize("score", [dice_score, soft_dice])
def test_dice_does_not_change_when_both_are_transposed(noise, score):
    logits, target = noise(3, 1, 6, 9), (noise(3, 1, 6, 9, seed=1) > 0.5).float()
    assert score(logits, target).item() == pytest.approx(score(logits.mT, target.mT).item(), rel=1e-6)
    row_wise = torch.stack([score(logits[..., i : i + 1, :], target[..., i : i + 1, :]) for i in range(6)]).mean()
    assert row_wise.item() != pytest.approx(score(logits, target).item(), rel=1e-3)
    logits, label = noise(2, 3, 6, 9), labels(2, 6, 9)
    expected = multiclass_dice_score(logits, label).item()
    assert multiclass_dice_score(logits.mT, label.mT).item() == pytest.approx(expected)


def test_a_class_that_is_nowhere_scores_1_and_one_that_is_missed_0():
    logits = 9.0 * F.one_hot(torch.tensor([[0, 1, 1, 0]]), 4).movedim(-1, 1)
    label = torch.tensor([[0, 1, 1, 2]])
    assert multiclass_dice_score(logits, label).item() == pytest.approx((1 + 0 + 1) / 3)
    assert multiclass_dice_score(logits, label, include_background=True).item() == pytest.approx(
        (2 / 3 + 1 + 0 + 1) / 4
    )


@pytest.mark.parametrize("loss", [multiclass_dice, dice_ce, multiclass_dice_score])
def test_labels_that_do_not_fit_are_refused(loss, refuses):
    logits = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ShapeError, match=r"need a label of \(2, 4, 4\) or \(2, 1, 4, 4\), not \(2, 3, 4, 4\)"):
        loss(logits, torch.zeros(2, 3, 4, 4).long())
    refuses(ShapeError, "need a label of", loss, logits, torch.zeros(1, 4, 4).long())
    with pytest.raises(ConfigError, match="labels run from 0 to 255, but there are 3 classes: 0 to 2"):
        loss(logits, torch.full((2, 4, 4), 255).index_fill(0, torch.tensor(0), 0))
