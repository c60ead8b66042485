import pytest
import torch
from torch.nn import functional as F

from delira_nca.errors import ConfigError
from delira_nca.losses import dice_score, multiclass_dice, soft_dice
from delira_nca.models import BinarySegmentationNCAModel, SegmentationNCAModel


def test_the_binary_loss_is_the_weighted_sum_of_its_terms(models, batch_for, randomise):
    model = randomise(models["binary"](lambda_dice=0.7, lambda_bce=0.2, lambda_hidden=0.0))
    data, label = batch_for(model)
    prediction = model.predict(data)
    target = label[:, None].float()
    dice, bce = soft_dice(prediction.pred, target), F.binary_cross_entropy_with_logits(prediction.pred, target)
    losses = model.loss(prediction, label)
    assert losses["total"].item() == pytest.approx((0.7 * dice + 0.2 * bce).item(), rel=1e-5)
    assert losses["dice_loss"].item() == pytest.approx(dice.item())
    assert losses["bce"].item() == pytest.approx(bce.item())
    for same in (label.bool(), label.float(), label.to(torch.uint8)):
        assert torch.equal(model.loss(prediction, same)["total"], losses["total"])


def test_the_score_is_dice_of_the_whole_mask_and_does_not_change_when_transposed(models, batch_for, randomise):
    model = randomise(models["binary"]())
    data, label = batch_for(model)
    prediction = model.predict(data)
    mask = model.mask(prediction)[:, 0]
    each = [2 * (m & t.bool()).sum() / (m.sum() + t.sum()) for m, t in zip(mask, label, strict=True)]
    assert model.metrics(prediction, label)["dice"] == pytest.approx(torch.stack(each).mean().item())
    measure = model.metrics["dice"]
    assert measure(prediction.pred.mT, label.mT).item() == pytest.approx(measure(prediction.pred, label).item())
    assert dice_score(prediction.pred, label[:, None]) == measure(prediction.pred, label)


def test_the_loss_of_classes_is_the_weighted_sum_of_its_terms(models, batch_for, randomise):
    model = randomise(models["segmentation"](lambda_dice=0.7, lambda_ce=0.2, lambda_hidden=0.0))
    data, label = batch_for(model)
    prediction = model.predict(data)
    expected = 0.7 * multiclass_dice(prediction.pred, label) + 0.2 * F.cross_entropy(prediction.pred, label)
    assert model.loss(prediction, label)["total"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(model.mask(prediction), prediction.output_channels.argmax(1))


@pytest.mark.parametrize("task", ["binary", "segmentation"])
def test_volumes_are_segmented_too(models, noise, task):
    model = models[task](dims=3, num_hidden_channels=2)
    volume, label = noise(1, 1, 5, 6, 7), torch.zeros(1, 5, 6, 7).long()
    prediction = model.predict(volume, steps=2)
    assert torch.isfinite(model.loss(prediction, label)["total"])
    assert model.mask(prediction).shape[-3:] == (5, 6, 7)


def test_labels_outside_of_the_classes_are_refused_with_their_numbers(models, batch_for):
    binary, classes = models["binary"](), models["segmentation"]()
    data, label = batch_for(binary)
    with pytest.raises(ConfigError, match="labels run from 0 to 255, but a mask has 0 outside and 1 inside"):
        binary.loss(binary.predict(data), 255 * label)
    with pytest.raises(ConfigError, match="labels run from 0 to 255, but a mask has 0 outside"):
        binary.metrics(binary.predict(data), 255 * label)
    with pytest.raises(ConfigError, match="labels run from 0 to 3, but there are 3 classes: 0 to 2"):
        classes.loss(classes.predict(data), 3 * label)


def test_bad_arguments_are_refused(refuses):
    refuses(ConfigError, "num_classes must be a whole number of at least 2, not 0", SegmentationNCAModel)
    with pytest.raises(ConfigError, match="3 classes have 3 class_names, not 2"):
        SegmentationNCAModel(num_classes=3, class_names=["a", "b"])
    with pytest.raises(ConfigError, match="nothing would be learned: all of lambda_bce, lambda_dice, lambda_hidden"):
        BinarySegmentationNCAModel(lambda_bce=0, lambda_dice=0)


@pytest.mark.processor
@pytest.mark.parametrize(
    ("task", "changes", "least"), [("binary", {"filter_padding": "reflect"}, 0.75), ("segmentation", {}, 0.7)]
)
def test_discs_of_one_class_and_of_two_are_found(models, disc_pictures, train, task, changes, least):
    training, validation = disc_pictures(48), disc_pictures(16, seed=1)
    for part in (training, validation) if task == "binary" else ():
        part["label"] = part["label"] == 1
    trainer = train(models[task](**changes), training, validation, 8, lr=5e-3)
    assert trainer.history[0]["val_dice"] < 0.6
    assert trainer.best.score > least
