import dataclasses

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.experiment.predictor import Predictor, predict_all
from delira_nca.losses import dice_score, rmse
from delira_nca.models import BasicNCAModel
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork


class Double(AbstractPyTorchNetwork):
    def forward(self, x):
        return 2 * x


def batches(arrays, size):
    length = len(arrays["data"])
    return [{k: v[i : i + size] for k, v in arrays.items()} for i in range(0, length, size)]


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "data": rng.normal(size=(7, 1, 4, 4)).astype(np.float32),
        "label": rng.integers(0, 2, (7, 1, 4, 4)),
        "name": np.array(list("abcdefg")),
    }


def worst(pred, label):
    return (2 * pred - label).abs().max()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_metrics_are_those_of_each_sample_however_they_are_batched(arrays, size):
    predictor = Predictor(Double(), {"dice": dice_score, "worst": worst})
    predictions, values, means = predict_all(predictor, batches(arrays, size))
    assert np.array_equal(predictions, 2 * arrays["data"])
    expected = np.abs(4 * arrays["data"] - arrays["label"]).max((1, 2, 3))
    assert np.allclose(values["worst"], expected, rtol=1e-6)
    for row in range(7):
        inside, label = arrays["data"][row] > 0, arrays["label"][row] > 0
        assert values["dice"][row] == pytest.approx(2 * (inside & label).sum() / (inside.sum() + label.sum()))
    assert means == pytest.approx({name: row.mean() for name, row in values.items()})


class Total:
    """A metric of a whole set that cannot be called."""

    def reset(self):
        self.total = 0.0

    __init__ = reset

    def update(self, pred, label):
        self.total += float(pred.sum())

    def compute(self):
        return self.total


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_metric_of_a_set_is_computed_of_all_samples(arrays, size):
    predictor = Predictor(Double(), {"rmse": rmse, "total": Total()})
    _, values, means = predict_all(predictor, batches(arrays, size))
    errors = 2 * arrays["data"] - arrays["label"]
    assert means["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-5)
    assert means["total"] == pytest.approx(2 * arrays["data"].sum(), rel=1e-5)
    assert np.allclose(values["rmse"], np.sqrt((errors**2).mean((1, 2, 3))), rtol=1e-5)


@dataclasses.dataclass
class Two:
    """Outputs of a network."""

    mask: torch.Tensor
    size: torch.Tensor


class Several(Double):
    """Gives its outputs as a dict, a tuple, a list or a dataclass."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        mask, size = 2 * x, x.sum((1, 2, 3))
        return {"dict": {"mask": mask, "size": size}, "tuple": (mask, size), "list": [mask, size]}.get(
            self.kind, Two(mask, size)
        )


@pytest.mark.parametrize("kind", ["dict", "tuple", "list", "dataclass"])
def test_several_outputs_are_predicted_and_measured(arrays, kind):
    mask, size = ("0", "1") if kind in ("tuple", "list") else ("mask", "size")
    keys = {"error": (mask, "label"), "sum": (size,)}
    metrics = {"error": lambda p, q: (p - q).abs().mean(), "sum": lambda s: s.mean()}
    predictions, values, means = predict_all(Predictor(Several(kind), metrics, keys), batches(arrays, 3))
    assert np.allclose(predictions[mask], 2 * arrays["data"])
    assert np.allclose(predictions[size], arrays["data"].sum((1, 2, 3)), atol=1e-5)
    assert np.allclose(values["sum"], predictions[size])
    assert means["error"] == pytest.approx(np.abs(2 * arrays["data"] - arrays["label"]).mean(), rel=1e-5)


def test_metrics_are_wired_by_name(arrays):
    predictor = Predictor(Double(), {"bias": lambda pred, data: (pred - data).mean()}, {"bias": ["pred", "data"]})
    values = predict_all(predictor, batches(arrays, 4))[1]
    assert np.allclose(values["bias"], arrays["data"].mean((1, 2, 3)), atol=1e-6)
    with pytest.raises(UnknownNameError, match="'bias' is wired to 'dat', which is not there"):
        predict_all(Predictor(Double(), {"bias": dice_score}, {"bias": ("pred", "dat")}), batches(arrays, 4))


def test_what_is_random_is_a_function_of_seed_and_batch(arrays, randomise):
    network = randomise(
        BasicNCAModel(num_image_channels=1, num_hidden_channels=2, num_output_channels=1, hidden_size=4)
    )
    network.inference_timesteps = 3

    def predict(seed):
        return predict_all(Predictor(network, seed=seed), batches(arrays, 4))[0]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = predict(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first, predict(0))
    assert not np.array_equal(first, predict(1))


def test_the_network_is_left_as_it_was(arrays):
    network = Double().train()
    modes = []

    class Watching(Predictor):
        def predict_batch(self, batch, number):
            modes.append((self.network.training, torch.is_grad_enabled()))
            return super().predict_batch(batch, number)

    next(Watching(network).predict(batches(arrays, 4)))
    assert modes == [(False, False)]
    list(Watching(network).predict(batches(arrays, 4)))
    assert network.training


def test_predictions_of_different_shapes_are_a_list_of_samples():
    sizes = [{"data": np.ones((2, 1, side, side), np.float32)} for side in (3, 5)]
    predictions, values, means = predict_all(Predictor(Double()), sizes)
    assert means == {}
    assert [p.shape for p in predictions] == [(1, 3, 3)] * 2 + [(1, 5, 5)] * 2
    assert values == {}


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ConfigError, match="there is nothing to test"):
        predict_all(Predictor(Double()), [])
    with pytest.raises(ConfigError, match="metric 'dice' is called with tensors, but 3 cannot be called"):
        Predictor(Double(), {"dice": 3})
