import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.losses import multiclass_focal
from delira_nca.models import BasicNCAHead, ClassificationNCAHead, ClassificationNCAModel, SelfClassificationNCAModel


@pytest.fixture(scope="module")
def digits():
    """Zeros, ones and twos, 8 x 8: 400 to train with, and 137 others."""
    found = load_digits(n_class=3)
    data, label = (found.images / 16).astype(np.float32)[:, None], found.target
    return {"data": data[:400], "label": label[:400]}, {"data": data[400:], "label": label[400:]}


def test_the_head_gives_the_logits_and_the_focal_loss_is_theirs(models, batch_for, randomise):
    model = randomise(models["classification"]())
    data, label = batch_for(model)
    prediction = model.predict(data)
    assert torch.equal(prediction.pred, model.head(prediction.hidden_channels))
    assert model.num_output_channels == 0
    assert torch.equal(model.loss(prediction, label)["total"], multiclass_focal(prediction.pred, label, gamma=2.0))
    assert torch.allclose(model.classify(data), prediction.pred.softmax(1))
    assert torch.equal(model.classify(data, reduce=True), prediction.pred.argmax(1))


def test_without_a_classifier_the_logits_are_the_mean_over_cells(models, batch_for, randomise):
    model = randomise(models["mean_of_cells"]())
    data, label = batch_for(model)
    prediction = model.predict(data)
    assert model.head is None
    assert torch.allclose(prediction.pred, prediction.output_channels.mean((2, 3)))
    cross_entropy = F.cross_entropy(prediction.pred, label)
    assert model.loss(prediction, label)["total"].item() == pytest.approx(cross_entropy.item(), rel=1e-5)


def test_the_head_has_the_weights_that_are_announced_and_can_be_frozen(refuses):
    head = ClassificationNCAHead(20, 10)
    assert sum(p.numel() for p in head.parameters()) == 20 * 64 * 32 + 32 + 32 * 10 + 10
    head.freeze()
    assert [n for n, p in head.named_parameters() if p.requires_grad] == ["last.weight", "last.bias"]
    head.freeze(freeze_last=True)
    assert not any(p.requires_grad for p in head.parameters())
    refuses(TypeError, "abstract", BasicNCAHead)
    with pytest.raises(ConfigError, match="avg_pool_size must be a whole number of at least 1, not 0"):
        ClassificationNCAHead(20, 10, avg_pool_size=0)


class Mean(BasicNCAHead):
    def forward(self, hidden):
        return hidden.flatten(2).mean(2)[:, :10]

    def freeze(self, freeze_last=False):
        self.requires_grad_(False)


def test_a_head_of_ones_own_takes_the_place_of_the_usual_one(models, batch_for, refuses):
    model = models["classification"](num_hidden_channels=12, head=Mean())
    data, _ = batch_for(model)
    assert model.predict(data).pred.shape == (2, 10)
    description = model.to_dict()
    with pytest.raises(ConfigError, match=r"head is a .*Mean, which a description cannot hold: pass head="):
        ClassificationNCAModel.from_dict(description)
    again = ClassificationNCAModel.from_dict(description, head=Mean())
    assert isinstance(again.head, Mean)
    refuses(ConfigError, "sets head itself, to None: leave it out", models["mean_of_cells"], head=Mean())


def test_living_cells_vote(models):
    model = models["self_classification"](num_hidden_channels=0, num_classes=3)
    state = torch.zeros(3, 4, 2, 2)
    state[0, 0] = torch.tensor([[0.5, 0.5], [0.5, 0.1]])  # three cells live
    state[0, 1:] = torch.tensor([[[0.0, 5], [0, 0]], [[1, 0], [1, 0]], [[0, 0], [0, 9]]])
    state[1, 0], state[1, 3] = 1.0, 1.0
    votes = model.predict(state, steps=0).pred
    assert votes.tolist() == [pytest.approx([1 / 3, 2 / 3, 0]), [0, 0, 1], [0, 0, 0]]
    assert model.classify(state, steps=0, reduce=True).tolist() == [1, 2, -1]
    assert model.metrics["agreement"](votes, torch.tensor([1, 2, 0])).item() == pytest.approx(1 / 3)


def test_only_living_cells_are_trained(models):
    model = models["self_classification"](fire_rate=1.0)
    data = torch.zeros(1, 1, 8, 8)
    data[..., 2:5, 2:5] = 1
    state = F.pad(data, (0, 0, 0, 0, 0, model.num_channels - 1)).requires_grad_()
    model.loss(model(state, 0), torch.tensor([4]))["total"].backward()
    learned = (state.grad[:, -10:] != 0).any(1, keepdim=True)
    assert torch.equal(learned, data > 0.1)


@pytest.mark.parametrize("task", ["classification", "mean_of_cells", "self_classification", "self_l2"])
def test_labels_outside_of_the_classes_are_refused_with_their_numbers(models, batch_for, task):
    model = models[task]()
    data, _ = batch_for(model)
    with pytest.raises(ConfigError, match="labels run from 0 to 10, but there are 10 classes: 0 to 9"):
        model.loss(model.predict(data), torch.tensor([10, 0]))


def test_bad_arguments_are_refused(refuses):
    for cls in (ClassificationNCAModel, SelfClassificationNCAModel):
        refuses(ConfigError, "num_classes must be a whole number of at least 2, not 0", cls)
        refuses(ConfigError, "3 classes have 3 class_names, not 1", cls, num_classes=3, class_names=["a"])
    refuses(UnknownNameError, "unknown loss of cells 'L2'", SelfClassificationNCAModel, num_classes=3, cell_loss="L2")
    with pytest.raises(ConfigError, match="gamma must be a number of at least 0, not -1"):
        ClassificationNCAModel(num_classes=3, gamma=-1)


@pytest.mark.processor
@pytest.mark.parametrize(("task", "epochs"), [("classification", 3), ("mean_of_cells", 8), ("self_classification", 6)])
def test_digits_are_learned(models, digits, train, task, epochs):
    model = models[task](num_classes=3, num_hidden_channels=12, hidden_size=48)
    assert train(model, *digits, epochs, batch_size=16, lr=8e-3).best.score > 0.5  # where guessing gives 0.34
