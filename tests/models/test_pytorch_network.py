import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import AbstractPyTorchNetwork, BasicNCAModel
from delira_nca.models.network import declared_loss_names


class Line(AbstractPyTorchNetwork):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))
        self.calls = []

    def forward(self, x):
        self.calls.append((torch.is_grad_enabled(), x.dtype))
        return self.weight * x


class OwnLoss(Line):
    loss_names = ("total", "half")

    def loss(self, prediction, label):
        error = F.mse_loss(prediction, label)
        return {"total": error, "half": error / 2}


def batch():
    return {"data": torch.tensor([1.0, 3.0]), "label": torch.tensor([0.0, 0.0])}


def sgd(model, lr=0.1):
    return {"default": torch.optim.SGD(model.parameters(), lr)}


def test_one_step_of_training_minimises_the_sum_of_the_criterions():
    model = Line()
    criterions = {"mse": F.mse_loss, "l1": F.l1_loss}
    metrics, losses, prediction = Line.closure(model, batch(), sgd(model), criterions, {"worst": lambda p, y: p.max()})
    assert {name: value.item() for name, value in losses.items()} == {"mse": 20.0, "l1": 4.0, "loss": 24.0}
    assert metrics == {"worst": torch.tensor(6.0)}  # before the step
    assert prediction.tolist() == [2.0, 6.0]
    assert model.weight.item() == pytest.approx(2.0 - 0.1 * (20.0 + 2.0))  # d mse = 2 w mean(x^2), d l1 = mean(x)
    assert not any(v.requires_grad for v in (prediction, *losses.values(), *metrics.values()))


def test_gradients_do_not_add_up_over_iterations_and_all_optimizers_step():
    model = Line()
    optimizers = sgd(model, 0.0)
    for _ in range(2):
        Line.closure(model, batch(), optimizers, {"mse": F.mse_loss}, {})
    assert model.weight.grad.item() == pytest.approx(20.0)
    model = Line()
    model.other = nn.Parameter(torch.tensor([1.0]))
    optimizers = {"a": torch.optim.SGD([model.weight], 0.1), "b": torch.optim.SGD([model.other], 0.1)}
    model.forward = lambda x: model.weight * x + model.other
    Line.closure(model, batch(), optimizers, {"mse": F.mse_loss}, {})
    assert model.weight.item() != 2.0
    assert model.other.item() != 1.0


def test_evaluation_builds_no_graph_and_changes_nothing():
    model = Line()
    _, losses, prediction = Line.closure(model, batch(), {}, {"mse": F.mse_loss}, {})
    assert model.calls == [(False, torch.float32)]
    assert losses["loss"].item() == 20.0
    assert prediction.grad_fn is None
    assert model.weight.grad is None
    assert model.weight.item() == 2.0


def test_criterions_and_metrics_are_wired_by_name():
    model = Line()
    data = {**batch(), "mask": torch.tensor([1.0, 0.0])}
    masked = {"masked": lambda mask, pred, label: (mask * (pred - label).square()).sum()}
    keys = {"masked": ("mask", "pred", "label"), "area": ("mask",)}
    metrics, losses, _ = Line.closure(model, data, {}, masked, {"area": torch.sum}, keys=keys)
    assert losses["masked"].item() == 4.0
    assert metrics["area"].item() == 1.0
    with pytest.raises(UnknownNameError, match="Did you mean 'mask'"):
        Line.closure(model, data, {}, masked, {}, keys={"masked": ("maks",)})


def test_a_network_may_bring_its_own_loss():
    model = OwnLoss()
    _, losses, _ = OwnLoss.closure(model, batch(), sgd(model), {}, {})
    assert {name: value.item() for name, value in losses.items()} == {"half": 10.0, "loss": 20.0}
    assert model.weight.item() == pytest.approx(0.0, abs=1e-6)
    criterions = {"l1": F.l1_loss}  # given ones take its place
    assert set(OwnLoss.closure(model, batch(), {}, criterions, {})[1]) == {"l1", "loss"}


def test_without_any_loss_training_is_refused(refuses):
    refuses(ConfigError, "Line has no loss of its own", Line.closure, Line(), batch(), {}, {}, {})
    with pytest.raises(UnknownNameError, match="own loss is wired to 'label'.*Did you mean 'labels'"):
        OwnLoss.closure(OwnLoss(), {"data": torch.ones(2), "labels": torch.ones(2)}, {}, {}, {})
    refuses(UnknownNameError, "wired to 'data'", OwnLoss.closure, OwnLoss(), {"label": torch.ones(2)}, {}, {}, {})


@pytest.mark.parametrize("names", [None, ("total",), ("half",), ("total", "half", "third")])
def test_own_losses_are_those_that_were_announced(names):
    model = OwnLoss()
    model.loss_names = names
    with pytest.raises(ConfigError, match=r"OwnLoss.loss returns \['half', 'total'\], loss_names says"):
        OwnLoss.closure(model, batch(), {}, {}, {})


class Parts(Line):
    def forward(self, x):
        return {"pred": self.weight * x, "aux": {"twice": 2 * self.weight * x}}


def test_a_prediction_with_parts_can_be_wired_and_is_detached():
    model = Parts()
    criterions = {"twice": lambda aux: aux["twice"].sum()}
    _, losses, prediction = Parts.closure(model, batch(), sgd(model), criterions, {}, keys={"twice": ("aux",)})
    assert losses["loss"].item() == 16.0
    assert not prediction["aux"]["twice"].requires_grad
    assert not prediction["pred"].requires_grad


def test_an_automaton_is_trained_by_the_seed_of_the_iteration(randomise, noise):
    data = {"data": noise(2, 3, 6, 6), "label": noise(2, 3, 6, 6)}

    def train(seed):
        model = randomise(
            BasicNCAModel(num_image_channels=3, num_hidden_channels=3, immutable_image_channels=False, hidden_size=8)
        )
        model.training_timesteps = (2, 9)
        _, losses, prediction = model.closure(model, data, sgd(model), {"l1": F.l1_loss}, {}, seed=seed)
        return prediction.steps, losses["loss"].item(), [p.detach() for p in model.parameters()]

    first, again, other = train(1), train(1), train(2)
    assert first[:2] == again[:2]
    assert all(torch.equal(a, b) for a, b in zip(first[2], again[2], strict=True))
    assert first[1] != other[1]


def test_prepared_numbers_keep_their_kind():
    prepared = Line.prepare_batch(
        {
            "data": np.array([[1.5]], dtype=np.float64),
            "half": np.array([0.5], dtype=np.float16),
            "label": np.array([3], dtype=np.int64),
            "small": np.array([200], dtype=np.uint8),
            "mask": np.array([True]),
            "tensor": torch.ones(2, dtype=torch.float64),
            "scalar": np.array(4.0),
            "swapped": np.array([1.0, 2.0], dtype=">f8"),
        },
        "cpu",
        "cpu",
    )
    dtypes = {name: value.dtype for name, value in prepared.items()}
    assert dtypes == {
        "data": torch.float32,
        "half": torch.float32,
        "label": torch.int64,
        "small": torch.uint8,
        "mask": torch.bool,
        "tensor": torch.float32,
        "scalar": torch.float32,
        "swapped": torch.float32,
    }
    assert prepared["data"].tolist() == [[1.5]]
    assert prepared["small"].tolist() == [200]
    assert prepared["scalar"].shape == ()
    assert prepared["swapped"].tolist() == [1.0, 2.0]


def test_only_arrays_of_numbers_are_prepared_in_any_order_of_memory_and_each_on_its_device():
    names, objects = np.array(["a.png", "b.png"]), np.array([None, "x"], dtype=object)
    batch = {"names": names, "objects": objects, "path": "here", "number": 3, "nothing": None}
    prepared = Line.prepare_batch(batch, "cpu", "cpu")
    assert all(prepared[key] is batch[key] for key in batch)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    locked = array.copy()
    locked.flags.writeable = False
    batch = {"data": array[:, ::-1], "label": array.T, "locked": locked}
    prepared = Line.prepare_batch(batch, "cpu", "cpu")
    for key, value in batch.items():
        assert np.array_equal(prepared[key].numpy(), value)
    prepared["locked"] += 1
    assert np.array_equal(locked, array)
    prepared = Line.prepare_batch({"data": np.zeros(2), "label": np.zeros(2)}, "meta", "cpu")
    assert prepared["data"].device.type == "meta"
    assert prepared["label"].device.type == "cpu"


def test_a_loss_that_does_not_announce_its_names_is_taken_as_it_is():
    class Quiet(OwnLoss):
        def loss(self, prediction, label):
            error = (prediction - label).square().mean()
            return {"total": error, "error": error}

    assert declared_loss_names(Quiet()) is None
    assert declared_loss_names(OwnLoss()) == ("total", "half")
    _, losses, _ = Quiet.closure(Quiet(), batch(), {}, {}, {})
    assert {name: value.item() for name, value in losses.items()} == {"error": 20.0, "loss": 20.0}
