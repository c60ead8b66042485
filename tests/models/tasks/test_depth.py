import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import gradient_l1, mse, shift_free_mse, ssim


def test_the_loss_is_the_weighted_sum_of_its_terms(models, batch_for, randomise):
    model = randomise(models["depth"](lambda_gradient=0.3, lambda_depth=0.6, lambda_ssim=0.4))
    data, label = batch_for(model, 16)
    prediction = model.predict(data)
    pred, truth = prediction.pred, label[:, None]
    terms = 0.3 * gradient_l1(pred, truth) + 0.6 * shift_free_mse(pred, truth) + 0.4 * (1 - ssim(pred, truth))
    assert model.loss(prediction, label)["total"].item() == pytest.approx(terms.item(), rel=1e-5)
    assert model.metrics(prediction, label)["ssim"] == pytest.approx(ssim(pred, truth).item())
    assert model.validation_metric == "ssim"


def test_a_constant_that_is_added_costs_nothing_only_where_the_loss_is_free_of_shifts(models, batch_for, randomise):
    for shift_free, error in ((True, shift_free_mse), (False, mse)):
        model = randomise(models["depth"](shift_free=shift_free))
        data, label = batch_for(model, 16)
        prediction = model.predict(data)
        found = model.loss(prediction, label)["depth"], model.loss(prediction, label + 0.5)["depth"]
        assert found[0].item() == pytest.approx(error(prediction.pred, label[:, None]).item())
        assert (abs(found[0] - found[1]) < 1e-5) == shift_free
        assert model.to_dict()["shift_free"] is shift_free


def test_small_maps_have_a_smaller_window(models, batch_for, randomise):
    model = randomise(models["depth"]())
    data, label = batch_for(model, 6)
    prediction = model.predict(data)
    expected = ssim(prediction.pred, label[:, None], window=5).item()
    assert model.metrics(prediction, label)["ssim"] == pytest.approx(expected)


def test_depth_that_is_no_real_number_is_refused(models, batch_for):
    model = models["depth"]()
    data, label = batch_for(model)
    with pytest.raises(ConfigError, match=r"a label of depth is of real numbers, not torch.int64"):
        model.loss(model.predict(data), label.long())


def spheres(num, size=16, *, seed=0):
    """Shaded spheres, and how near each cell is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    depth = np.zeros((num, size, size))
    for n in range(num):
        row, column, radius = (*rng.uniform(5, size - 5, 2), rng.uniform(4, 6))
        depth[n] = np.sqrt(np.clip(radius**2 - (y - row) ** 2 - (x - column) ** 2, 0, None)) / 6
    light = np.sqrt(depth) + 0.02 * rng.standard_normal(depth.shape)
    return {"data": light[:, None].astype(np.float32), "label": depth.astype(np.float32)}


@pytest.mark.processor
def test_depth_is_learned_from_shade(models, train):
    model, validation = models["depth"](), spheres(16, seed=1)
    data, label = torch.from_numpy(validation["data"]), torch.from_numpy(validation["label"])
    assert model.validate(data, label)[0]["ssim"] < 0.3
    trainer = train(model, spheres(48), validation, 10, lr=5e-3)
    assert trainer.best.key == "ssim"
    assert trainer.best.score > 0.75
