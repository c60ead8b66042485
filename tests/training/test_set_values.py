"""Values of a set of samples: means, metrics, and what is predicted for batches in groups of another size."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import macro_accuracy, mse, rmse
from delira_nca.training.set_values import SampleMean, SetValues, batch_length, predict_batches, regroup


class OneClass:
    """A metric that cannot be computed of a single class."""

    def __init__(self):
        self.reset()

    def update(self, pred, label):
        self.seen += label.flatten().tolist()

    def compute(self):
        if len(set(self.seen)) < 2:
            raise ValueError("one class only")
        return len(self.seen)

    def reset(self):
        self.seen = []


def _take_in(values, *batches):
    for pred, label in batches:
        measured = {name: function(pred, label) for name, function in values.functions.items()}
        values.add({name: value for name, value in measured.items() if value is not None}, len(pred))
    return values


def test_a_metric_of_a_set_is_no_mean_of_its_batches():
    pred, label = torch.arange(5.0)[:, None], torch.zeros(5, 1)
    results = [
        _take_in(SetValues({"rmse": rmse, "mse": mse}), *zip(pred.split(n), label.split(n), strict=True)).result()
        for n in (1, 2, 5)
    ]
    assert all(result == pytest.approx({"rmse": 6**0.5, "mse": 6.0}) for result in results)


def test_a_metric_that_cannot_be_computed_of_every_batch_is_computed_of_the_set():
    batches = [(torch.zeros(2), torch.tensor([0, 0])), (torch.zeros(1), torch.tensor([1]))]
    values = _take_in(SetValues({"count": OneClass(), "mse": mse}), *batches)
    assert values.functions["count"](*batches[0]) is None
    assert list(values.result()) == ["count", "mse"]
    assert values.result()["count"] == 5


@pytest.mark.parametrize(
    ("compute", "text"),
    [
        (OneClass.compute, "metric 'count' cannot be computed of this set: one class only"),
        (lambda metric: torch.ones(3), "metric 'count' has to be one number"),
        (lambda metric: {"a": 1.0}, "metric 'count' has to be one number"),
        (lambda metric: "text", "metric 'count' has to be one number"),
    ],
)
def test_one_that_cannot_be_computed_of_the_set_or_is_not_one_number_is_named(compute, text):
    metric = OneClass()
    metric.compute = lambda: compute(metric)
    with pytest.raises(ConfigError, match=text):
        _take_in(SetValues({"count": metric}), (torch.zeros(1), torch.tensor([0]))).result()


def test_a_pass_continues_from_its_state():
    batches = [(torch.rand(3, 4), torch.tensor([0, 1, 2])), (torch.rand(2, 4), torch.tensor([0, 3]))]
    metrics = {"macro": macro_accuracy, "size": lambda pred, label: pred.mean()}
    whole = _take_in(SetValues(metrics), *batches)
    begun = _take_in(SetValues(metrics), batches[0])
    resumed = _take_in(SetValues(metrics, state=begun.state_dict()), batches[1])
    assert resumed.result() == whole.result()


def test_validation_and_test_do_not_depend_on_the_batch_size(make_trainer, batches, nca):
    data = batches(5)[0]
    split = [[{k: v[i : i + n] for k, v in data.items()} for i in range(0, 5, n)] for n in (1, 2, 5)]
    found = []
    for parts in split:
        network = nca(inference_timesteps=3, fire_rate=1.0)
        trainer = make_trainer(network, metrics={"rmse": rmse}, optimizer_params={"lr": 0.0})
        trainer.train(1, [data], parts)
        found.append((trainer.history[0]["val_rmse"], trainer.predict(parts)[2]["rmse"]))
    expected = np.sqrt(trainer.history[0]["val_mse"])
    for numbers in found:
        assert numbers == pytest.approx((expected, expected), rel=1e-5)


def test_a_resume_within_an_epoch_keeps_what_a_metric_has_taken_in(
    make_trainer, batches, tmp_path, assert_same, stop_after
):
    def run(folder, stop=None):
        trainer = make_trainer(save_path=folder, metrics={"rmse": rmse}, callbacks=[stop_after(stop)])
        trainer.train(2, batches(2, 3, 1), resume="auto")
        return trainer

    whole = run(tmp_path / "whole")
    assert run(tmp_path / "parts", stop=4).global_iter_num == 4
    assert_same(run(tmp_path / "parts").history, whole.history)


def test_a_metric_takes_keywords_of_a_closure_of_ones_own():
    class Right:
        def reset(self):
            self.right = self.count = 0

        def update(self, *, preds, target):
            self.right, self.count = self.right + int((preds == target).sum()), self.count + len(target)

        def compute(self):
            return self.right / self.count

    values = SetValues({"right": Right()})
    for preds in ([1, 1, 1], [0]):
        values.functions["right"](preds=torch.tensor(preds), target=torch.ones(len(preds)))
    assert values.result() == {"right": 0.75}


BATCHES = [
    {"data": np.arange(3), "label": np.arange(3) * 10},
    {"data": np.arange(3, 4), "label": np.arange(3, 4) * 10},
    {"data": np.arange(4, 11), "label": np.arange(4, 11) * 10},
]


def test_regrouping_loses_and_reorders_nothing():
    assert list(regroup([], 3)) == []
    for size in range(1, 13):
        groups = list(regroup(BATCHES, size))
        assert np.concatenate([g["data"] for g in groups]).tolist() == list(range(11)), size
        assert np.concatenate([g["label"] for g in groups]).tolist() == [10 * n for n in range(11)], size
        assert [len(g["data"]) for g in groups[:-1]] == [size] * (len(groups) - 1)
        assert 1 <= len(groups[-1]["data"]) <= size


@pytest.mark.parametrize(
    ("batch", "length"), [({"data": np.zeros((5, 2))}, 5), ({"n": 3, "x": [1, 2]}, 2), ({"n": 3}, 1), ({}, 1)]
)
def test_the_length_of_a_batch(batch, length):
    assert batch_length(batch) == length


def _evaluate(batch, number):
    return {"mean": batch["data"].mean(), "number": number}, batch["data"][:, None] * 2.0


@pytest.mark.parametrize("batch_size", [None, 1, 2, 4, 100])
def test_means_are_over_samples_however_they_are_grouped(batch_size):
    predictions, labels, means = predict_batches(_evaluate, BATCHES, batch_size)
    assert predictions.tolist() == [[2.0 * n] for n in range(11)]
    assert np.concatenate(labels).tolist() == [10 * n for n in range(11)]
    assert means["mean"] == pytest.approx(5.0, rel=1e-12)


def test_labels_stay_in_their_batches():
    for size, lengths in ((None, [3, 1, 7]), (4, [4, 4, 3])):
        assert [len(label) for label in predict_batches(_evaluate, BATCHES, size)[1]] == lengths
    for size in (0, -1):
        with pytest.raises(ConfigError, match="batch_size"):
            predict_batches(_evaluate, BATCHES, size)


def test_predictions_of_several_shapes_are_a_list():
    predictions, labels, _ = predict_batches(
        lambda batch, number: ({}, batch["data"]), [{"data": np.zeros((2, 3))}, {"data": np.zeros((1, 4))}]
    )
    assert [p.shape for p in predictions] == [(2, 3), (1, 4)]
    assert labels == []


def test_a_batch_counts_as_often_as_it_has_samples():
    mean = SampleMean()
    mean.add({"loss": torch.tensor(1.0), "dice": 0.5}, 3)
    mean.add({"loss": torch.tensor(5.0)}, 1)
    assert mean.result() == {"loss": 2.0, "dice": 0.5}


def test_sums_are_exact_and_results_plain():
    mean = SampleMean()
    assert mean.result() == {}
    for value in [torch.tensor(1e8), *[torch.tensor(1.0)] * 3]:
        mean.add({"loss": value.requires_grad_()}, 1)
    result = mean.result()["loss"]
    assert result == pytest.approx((1e8 + 3) / 4, rel=1e-12)
    assert type(result) is float
