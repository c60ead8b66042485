import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.losses import cell_cross_entropy, one_hot_l2


@pytest.fixture
def living():
    alive = torch.zeros(3, 1, 4, 5, dtype=torch.bool)
    alive[0, 0, 1:3, 1:4] = True  # 6 cells; of the second sample all 20; of the third none
    alive[1] = True
    return alive


def test_l2_is_half_the_squares_summed_over_living_cells(noise, living):
    logits, label = noise(3, 4, 4, 5), torch.tensor([2, 0, 3])
    each = [((logits[n, :, living[n, 0]] - torch.eye(4)[label[n]][:, None]) ** 2).sum() / 2 for n in range(3)]
    assert one_hot_l2(logits, label, living).item() == pytest.approx(sum(each).item() / 3, rel=1e-5)
    mean = (each[0] / 6 + each[1] / 20) / 3
    assert one_hot_l2(logits, label, living, reduction="mean").item() == pytest.approx(mean.item(), rel=1e-5)


def test_cross_entropy_is_that_of_living_cells(noise, living):
    logits, label = noise(3, 4, 4, 5), torch.tensor([2, 0, 3])
    each = F.cross_entropy(logits, label[:, None, None].expand(3, 4, 5), reduction="none")
    expected = (each[0][living[0, 0]].mean() + each[1].mean()) / 3
    assert cell_cross_entropy(logits, label, living).item() == pytest.approx(expected.item(), rel=1e-5)
    assert cell_cross_entropy(logits, label).item() == pytest.approx(each.mean().item(), rel=1e-5)


@pytest.mark.parametrize("loss", [one_hot_l2, cell_cross_entropy])
def test_a_label_for_the_picture_is_one_for_each_of_its_cells(noise, living, loss):
    logits, label = noise(3, 4, 4, 5), torch.tensor([2, 0, 3])
    of_cells = label[:, None, None].repeat(1, 4, 5)
    for same in (label[:, None], of_cells, of_cells[:, None]):
        assert torch.equal(loss(logits, same, living), loss(logits, label, living))
    of_cells[1, 0, 0] = 1
    assert not torch.equal(loss(logits, of_cells, living), loss(logits, label, living))


@pytest.mark.parametrize("loss", [one_hot_l2, cell_cross_entropy])
def test_dead_cells_have_no_gradient(noise, living, loss):
    logits = noise(3, 4, 4, 5).requires_grad_()
    loss(logits, torch.tensor([2, 0, 3]), living).backward()
    assert torch.equal((logits.grad != 0).any(1, keepdim=True), living)


@pytest.mark.parametrize("loss", [one_hot_l2, cell_cross_entropy])
def test_what_does_not_fit_and_unknown_reductions_are_refused(loss, refuses):
    logits = torch.zeros(2, 3, 4, 4)
    refuses(ConfigError, "labels run from 1 to 3, but there are 3 classes", loss, logits, torch.tensor([1, 3]))
    refuses(ShapeError, "need a label of", loss, logits, torch.zeros(3).long())
    with pytest.raises(ShapeError, match=r"living cells of \(2, 3, 4, 4\) are \(2, 1, 4, 4\), not \(1, 1, 4, 4\)"):
        loss(logits, torch.zeros(2).long(), torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ConfigError, match="a mask of living cells is bool, not torch.float32"):
        loss(logits, torch.zeros(2).long(), torch.ones(2, 1, 4, 4))
    refuses(ShapeError, r"logits of cells are \(B, K, \*spatial\)", loss, torch.zeros(2, 3), torch.zeros(2).long())
    with pytest.raises(UnknownNameError, match="unknown reduction 'men'"):
        one_hot_l2(torch.zeros(1, 2, 3), torch.zeros(1).long(), reduction="men")
