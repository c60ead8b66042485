"""NCALab's models of tasks: losses, metrics, predictions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.losses import MacroAUROC, MacroF1
from delira_nca.ncalab import (
    BasicNCATrainer,
    BinarySegmentationNCAModel,
    ClassificationNCAModel,
    DepthNCAModel,
    DiceBCELoss,
    DiceLoss,
    DiceScore,
    FocalLoss,
    GrowingNCAModel,
    SelfClassificationNCAModel,
    SmoothnessLoss,
)
from delira_nca.ncalab.prediction import MetricOfNCALab

SMALL = {"hidden_size": 8, "training_timesteps": 3, "inference_timesteps": 3}


def filled(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_of_growing_is_the_error_of_the_image_and_the_size_of_the_hidden_channels():
    model = filled(GrowingNCAModel("cpu", 5, lambda_hidden=0.1, **SMALL))
    prediction, label = model.predict(model.make_seed(8, 6), 3), rand(1, 4, 8, 6)
    losses = model.loss(prediction, label)
    image, hidden = prediction.output_image[:, :4], prediction.output_image[:, 4:]
    assert list(losses) == ["total", "growing", "hidden"]
    torch.testing.assert_close(losses["growing"], F.mse_loss(image, label))
    torch.testing.assert_close(losses["total"], F.mse_loss(image, label) + 0.1 * hidden.abs().mean())
    with pytest.raises(ShapeError, match=r"\(1, 4, 8, 6\) and label \(1, 3, 8, 6\)"):
        model.loss(prediction, label[:, :3])


def test_a_seed_is_one_cell_of_alpha_and_hidden_channels_and_grows_step_by_step():
    model = filled(GrowingNCAModel("cpu", 5, use_alive_mask=True, **SMALL))
    seed = model.make_seed(8, 6)
    assert seed.nonzero().tolist() == [[0, channel, 4, 3] for channel in range(3, 9)]
    frames = model.grow(seed, 3)
    assert [frame.shape for frame in frames] == [(4, 8, 6)] * 3
    assert np.array_equal(frames[-1], model.predict(seed, 3).image_channels_np[0].clip(0, 1))


@pytest.mark.parametrize("shape", [(3, 8, 6), (3, 1, 8, 6)])
def test_the_loss_of_a_segmentation_is_dice_over_the_batch_and_cross_entropy(shape):
    model = filled(BinarySegmentationNCAModel("cpu", 3, 4, lambda_hidden=0.2, lambda_bce=0.3, lambda_dice=0.7, **SMALL))
    prediction, label = model.predict(rand(3, 3, 8, 6)), (rand(*shape, seed=1) > 0.5).float()
    losses, p = model.loss(prediction, label), prediction.logits.sigmoid().flatten()
    dice = 1 - (2 * (p * label.flatten()).sum() + 1) / (p.sum() + label.sum() + 1)
    bce = F.binary_cross_entropy(p, label.flatten())
    hidden = prediction.hidden_channels.abs().mean()
    assert list(losses) == ["total", "dice", "bce", "hidden"]
    for name, value in (("dice", dice), ("bce", bce), ("total", 0.7 * dice + 0.3 * bce + 0.2 * hidden)):
        torch.testing.assert_close(losses[name], value)
    assert torch.equal(prediction.mask, prediction.logits > 0)
    assert prediction.mask_np.shape == (3, 1, 8, 6)


def test_the_dice_metric_is_that_of_each_mask_whatever_its_orientation():
    model = filled(BinarySegmentationNCAModel("cpu", 3, 4, **SMALL))
    images, masks = rand(4, 3, 8, 6), (rand(4, 8, 6, seed=1) > 0.6).float()
    metrics, prediction = model.validate(images, masks)
    pred, true = prediction.mask[:, 0].flatten(1), masks.bool().flatten(1)
    expected = (2 * (pred & true).sum(1) / (pred.sum(1) + true.sum(1))).mean()
    assert metrics == {"dice": pytest.approx(float(expected))}


@pytest.mark.parametrize("head", [True, False])
def test_the_loss_of_a_classification_is_focal(head):
    model = filled(ClassificationNCAModel("cpu", 3, 5, 4, use_classifier=head, lambda_hidden=0.1, **SMALL))
    prediction = model.predict(rand(3, 3, 9, 9))
    assert prediction.logits.shape == (3, 4)
    if not head:
        torch.testing.assert_close(prediction.logits, prediction.output_channels.mean((2, 3)))
    label = torch.tensor([[1], [3], [0]])
    error = F.cross_entropy(prediction.logits, label.squeeze(1), reduction="none")
    focal = ((1 - (-error).exp()) ** 2 * error).mean()
    losses = model.loss(prediction, label)
    assert list(losses) == ["total", "classification", "hidden"]
    torch.testing.assert_close(losses["classification"], focal)
    torch.testing.assert_close(losses["total"], focal + 0.1 * prediction.hidden_channels.abs().mean())
    with pytest.raises(ConfigError, match="labels run from 0 to 4"):
        model.loss(prediction, torch.tensor([1, 4, 0]))


def test_images_are_classified_by_the_head_or_by_the_mean_of_the_cells():
    model = filled(ClassificationNCAModel("cpu", 3, 5, 4, **SMALL))
    images = rand(3, 3, 9, 9)
    torch.testing.assert_close(model.classify(images, 3), model.predict(images, 3).logits.softmax(1))
    assert torch.equal(model.classify(images, 3, reduce=True), model.classify(images, 3).argmax(1))
    grey = filled(ClassificationNCAModel("cpu", 1, 5, 4, use_classifier=False, **SMALL))
    images = rand(3, 1, 9, 9)
    cells = (grey.predict(images, 3).output_channels * images).softmax(1)
    torch.testing.assert_close(grey.classify(images, 3), cells.mean((2, 3)))


def test_self_classification_trains_and_averages_the_cells_of_the_digit():
    model = filled(SelfClassificationNCAModel("cpu", 5, 3, **SMALL))
    images = (rand(4, 1, 9, 9) > 0.7).float()
    prediction, label = model.predict(images), torch.tensor([0, 2, 1, 1])
    cells, digit = prediction.output_channels, images[:, 0] > 0.1
    expected = torch.stack([c[:, d].mean(1) for c, d in zip(cells, digit, strict=True)])
    torch.testing.assert_close(prediction.logits, expected)
    errors = [
        F.cross_entropy(c[:, d].T, k.expand(d.sum())) * d.sum() for c, d, k in zip(cells, digit, label, strict=True)
    ]
    torch.testing.assert_close(model.loss(prediction, label)["total"], sum(errors) / digit.sum())


def test_the_loss_of_depth_compares_gradients_depths_without_medians_and_structure():
    model = filled(DepthNCAModel("cpu", 3, 5, **SMALL))
    prediction, label = model.predict(rand(2, 3, 14, 12)), rand(2, 14, 12, seed=1)
    losses, depth = model.loss(prediction, label), prediction.logits[:, 0]
    assert list(losses) == ["total", "tv", "depth", "ssim"]
    medians = [torch.stack([one.median(0).values.median() for one in maps]) for maps in (depth, label)]
    shifted = [maps - m[:, None, None] for maps, m in zip((depth, label), medians, strict=True)]
    torch.testing.assert_close(losses["depth"], F.mse_loss(*shifted))
    torch.testing.assert_close(losses["total"], 0.5 * losses["tv"] + losses["depth"] + 0.2 * losses["ssim"])
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    along = [
        F.l1_loss(*(F.conv2d(m[:, None], k[None, None], padding=1) for m in (depth, label))) for k in (kernel, kernel.T)
    ]
    torch.testing.assert_close(losses["tv"], sum(along))
    assert SmoothnessLoss()(label[:, None], label[:, None]) == 0
    with pytest.raises(ConfigError, match="a label of depth has floats"):
        model.loss(prediction, label.long())


def test_arguments_that_a_task_sets_may_be_repeated_but_not_changed():
    model = GrowingNCAModel("cpu", 5, num_image_channels=4, immutable_image_channels=False)
    assert model.num_channels == 9
    with pytest.raises(ConfigError, match="GrowingNCAModel sets num_image_channels itself, to 4: leave it out"):
        GrowingNCAModel("cpu", 5, num_image_channels=3)
    chosen = ClassificationNCAModel("cpu", 3, 5, 4, validation_metric="accuracy_macro", plot_function=None)
    assert (chosen.validation_metric, chosen.plot_function) == ("accuracy_macro", None)
    with pytest.raises(ConfigError, match="4 classes have 4 class_names, not 2"):
        ClassificationNCAModel("cpu", 3, 5, 4, class_names=["a", "b"])


class Counting:
    """Metric of another package: counts samples; all copies write down the shapes and types of their arguments."""

    seen = []

    def __init__(self):
        self.count = 0.0
        self.seen.clear()

    def reset(self):
        self.count = 0.0

    def update(self, measured, label):
        self.count += len(label)
        self.seen.append((tuple(measured.shape), measured.dtype, tuple(label.shape), label.dtype))

    def compute(self):
        return self.count


def test_metrics_of_other_packages_are_given_masks_and_integers():
    model, metric = filled(BinarySegmentationNCAModel("cpu", 3, 4, **SMALL)), Counting()
    model.metrics["count"] = metric
    loader = DataLoader(TensorDataset(rand(5, 3, 8, 6), (rand(5, 8, 6, seed=1) > 0.5).float()), batch_size=2)
    metrics, predictions = model.validate(loader, 3)
    assert metrics["count"] == 5
    assert [len(one.output_image) for one in predictions] == [2, 2, 1]
    history = BasicNCATrainer(model, None, max_epochs=1).train(loader, loader)
    assert history.metrics["count"] == 5
    assert set(metric.seen) == {((n, 8, 6), torch.bool, (n, 8, 6), torch.int64) for n in (1, 2)}


def test_labels_for_metrics_of_other_packages_have_the_form_of_the_predictions():
    for measured, label, expected in (
        (torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(2, 1, 4, 4), [(2, 4, 4), torch.int64]),
        (torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(2, 4, 4), [(2, 4, 4), torch.int64]),
        (torch.ones(2, 3), torch.ones(2, 1), [(2,), torch.int64]),
        (torch.ones(2, 3, 4, 4), torch.ones(2, 1, 4, 4), [(2, 4, 4), torch.int64]),
        (torch.ones(2, 1, 4, 4), torch.full((2, 4, 4), 0.5), [(2, 4, 4), torch.float32]),
    ):
        metric = MetricOfNCALab(Counting())
        metric.update(measured, label)
        assert metric.metric.seen == [(tuple(measured.shape), measured.dtype, *expected)]


def test_a_collection_of_metrics_that_are_modules_is_used():
    class Module(torch.nn.Module, Counting):
        def __init__(self):
            torch.nn.Module.__init__(self)
            Counting.__init__(self)

    model = DepthNCAModel("cpu", 3, 4, **SMALL)
    model.metrics = torch.nn.ModuleDict({"other": Module()})
    assert list(model.metrics) == ["other"]
    assert model.validate([(rand(2, 3, 8, 6), rand(2, 8, 6))])[0] == {"other": 2.0}


def test_metrics_of_a_set_do_not_depend_on_the_batch_size():
    model = filled(ClassificationNCAModel("cpu", 3, 5, 3, fire_rate=1.0, **SMALL))
    pairs = TensorDataset(rand(9, 3, 8, 8), torch.tensor([0, 1, 2, 2, 1, 0, 0, 2, 2]))
    found = [model.validate(DataLoader(pairs, batch_size=size))[0] for size in (1, 2, 9)]
    assert list(found[0]) == ["accuracy_macro", "accuracy_micro", "auroc", "f1"]
    assert found[0] == pytest.approx(found[1])
    assert found[0] == pytest.approx(found[2])


def test_f1_and_the_area_under_the_curve_are_those_of_scikit_learn():
    from sklearn.metrics import f1_score, roc_auc_score

    rng = np.random.default_rng(0)
    logits, labels = torch.tensor(rng.normal(size=(60, 4))), torch.tensor(rng.integers(0, 3, 60))
    f1, area = MacroF1(), MacroAUROC()
    for rows in (slice(0, 7), slice(7, 60)):
        f1.update(logits[rows], labels[rows])
        area.update(logits[rows], labels[rows, None])
    predicted, shares = logits.argmax(1), logits.softmax(1)
    assert f1.compute() == pytest.approx(f1_score(labels, predicted, average="macro"))
    areas = [roc_auc_score(labels == k, shares[:, k]) for k in range(3)]
    assert area.compute() == pytest.approx(np.mean(areas), abs=1e-6)
    single = MacroAUROC()
    for k in range(60):  # the conversion to probabilities does not depend on the batches
        single.update(0.1 * logits[k : k + 1].abs(), labels[k : k + 1])
    shares = (0.1 * logits.abs()) if (0.1 * logits.abs()).max() <= 1 else (0.1 * logits.abs()).softmax(1)
    areas = [roc_auc_score(labels == k, shares[:, k]) for k in range(3)]
    assert single.compute() == pytest.approx(np.mean(areas), abs=1e-6)
    for metric in (f1, area):
        metric.reset()
        assert np.isnan(metric.compute())


def test_the_best_epoch_is_that_of_the_highest_macro_f1():
    model = ClassificationNCAModel("cpu", 1, 5, 2, **SMALL)
    images = torch.arange(2.0).repeat_interleave(6).view(12, 1, 1, 1).expand(12, 1, 8, 8)
    loader = DataLoader(TensorDataset(images, images[:, 0, 0, :1].long()), batch_size=4, shuffle=True)
    history = BasicNCATrainer(model, None, max_epochs=4, lr=3e-2).train(loader, loader)
    scores = [epoch["val_f1"] for epoch in history.epochs]
    assert history.best_epoch == 1 + scores.index(max(scores))
    assert history.best_accuracy == max(scores) > 0.5


def test_loss_modules_follow_their_formulas():
    logits, target = torch.tensor([0.0, 2.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    p = logits.sigmoid()
    score = (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    torch.testing.assert_close(DiceScore()(logits, target), score)
    torch.testing.assert_close(DiceScore()(logits.view(2, 2), target.view(2, 2).long()), score)
    torch.testing.assert_close(DiceLoss()(logits, target), 1 - score)
    torch.testing.assert_close(DiceBCELoss()(logits, target), 1 - score + F.binary_cross_entropy(p, target))
    with pytest.raises(ShapeError):
        DiceScore()(logits, target[:3])


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 3.0])])
def test_the_focal_loss_is_that_of_the_mean_error_of_each_sample(weight):
    logits, label = rand(3, 5, 2), torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
    total = 0.0
    for one, k in zip(logits, label, strict=True):
        error = F.cross_entropy(one, k, weight)
        total = total + (1 - (-error).exp()) ** 3 * error
    expected = total / (3 if weight is None else weight.sum())
    torch.testing.assert_close(FocalLoss(weight, gamma=3)(logits, label), expected)
