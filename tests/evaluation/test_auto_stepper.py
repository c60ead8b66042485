import logging

import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.evaluation import AutoStepper, quality_over_steps
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, GoalEmbedding, Perception
from delira_nca.models.pyramid import PyramidNCA
from delira_nca.rollout.job import BatchPart, at_part


class CountUp(nn.Module):
    """Raises the hidden channel by 1 until it has reached the number in the image channel."""

    def forward(self, x):
        return (x[:, 1:] < x[:, :1]).to(x)


def model_of(rule, **changes):
    parts = {"num_image_channels": 1, "num_hidden_channels": 1, "perception": Perception("identity"), "fire_rate": 1.0}
    return BasicNCAModel(**{**parts, "rule": rule, **changes})


def counter():
    return model_of(CountUp())


def images(*numbers):
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()


@pytest.mark.parametrize("plateau", [1, 5])
def test_it_stops_within_the_plateau_of_a_known_step(plateau):
    for known in (0, 3, 9, 10, 17, 40):
        found = AutoStepper(min_steps=1, max_steps=100, plateau=plateau)(counter(), images(known))
        assert known < int(found.steps) <= known + plateau + 1
        assert found.converged.tolist() == [True]
        assert torch.equal(found.prediction.hidden_channels, images(known))


def test_each_sample_stops_on_its_own():
    numbers = (12, 0, 30, 3, 300)
    found = AutoStepper(min_steps=10, max_steps=50, plateau=5)(counter(), images(*numbers))
    assert found.steps.tolist() == [17, 10, 35, 10, 50]
    assert found.converged.tolist() == [True, True, True, True, False]
    assert found.state[:, 1, 0, 0].tolist() == [12, 0, 30, 3, 50]
    assert found.prediction.steps == 50


class Blink(nn.Module):
    """Changes in every fourth step; the time comes last."""

    def forward(self, x):
        return ((x[:, -1:] * 100).round() % 4 == 3).to(x)


def test_quiet_steps_count_only_in_a_row():
    model = model_of(Blink(), use_temporal_encoding=True, training_timesteps=100)
    assert AutoStepper(0, 30, 4)(model, images(0)).steps.tolist() == [30]
    assert AutoStepper(0, 30, 3)(model, images(0)).steps.tolist() == [3]
    assert AutoStepper(4, 30, 3)(model, images(0)).steps.tolist() == [7]


def test_it_never_stops_before_and_always_at_the_limits():
    assert AutoStepper(20, 30, 2)(counter(), images(0)).steps.tolist() == [20]
    never = AutoStepper(0, 7, 10)(counter(), images(0))
    assert never.steps.tolist() == [7]
    assert never.converged.tolist() == [False]
    assert never.state.shape == (1, 2, 4, 4)


def test_states_are_those_of_predict_with_so_many_steps(randomise, noise):
    model = randomise(BasicNCAModel(num_image_channels=1, num_hidden_channels=4, num_output_channels=1), 0.05)
    image = noise(3, 1, 8, 8) * torch.tensor([0.02, 4.0, 1.0]).view(3, 1, 1, 1)
    model.train()
    found = AutoStepper(2, 40, 2, threshold=0.01)(model, image, seed=9)
    assert len(set(found.steps.tolist())) > 1
    for sample, steps in enumerate(found.steps.tolist()):
        expected = model.predict(image, steps, seed=9).output_image[sample]
        assert torch.allclose(found.state[sample], expected, atol=1e-6)
    assert model.training
    with at_part(BatchPart(first=1, size=2, total=3)):
        part = AutoStepper(2, 40, 2, threshold=0.01)(model, image[1:], seed=9)
    assert part.steps.tolist() == found.steps.tolist()[1:]


def test_goals_are_told_to_the_samples_that_are_left(randomise, noise):
    parts = {"num_hidden_channels": 4, "conditioning": GoalEmbedding(3), "hidden_size": 8, "fire_rate": 0.8}
    model = randomise(BasicNCAModel(num_image_channels=1, **parts), 0.1)
    image, goal = noise(3, 1, 8, 8) * torch.tensor([0.02, 4.0, 1.0]).view(3, 1, 1, 1), torch.tensor([0, 2, 1])
    found = AutoStepper(2, 20, 2, threshold=0.02)(model, image, goal=goal)
    assert len(set(found.steps.tolist())) > 1
    for sample, steps in enumerate(found.steps.tolist()):
        expected = model.predict(image, steps, goal=goal).output_image[sample]
        assert torch.allclose(found.state[sample], expected, atol=1e-6)


def test_a_state_that_is_no_number_never_rests():
    found = AutoStepper(1, 12, 3)(counter(), torch.cat([images(2), images(2) * float("nan")]))
    assert found.steps.tolist() == [5, 1 + 2]  # a comparison with NaN is false: the rule adds nothing

    class Explode(nn.Module):
        def forward(self, x):
            return x[:, 1:] * 1e30 + 1

    for relative in (False, True):
        assert AutoStepper(1, 12, 3, relative=relative)(model_of(Explode()), images(1)).converged.tolist() == [False]


def test_relative_changes_are_divided_by_the_value_and_it_says_what_it_did_if_asked(caplog):
    found = AutoStepper(1, 60, 1, threshold=0.05, relative=True)(counter(), images(100))
    assert found.steps.tolist() == [22]  # the step from 21 to 22 is the first to change less than a twentieth
    with caplog.at_level(logging.INFO, "delira_nca"):
        AutoStepper(1, 20, 2, verbose=True)(counter(), images(4))
        AutoStepper(1, 20, 2)(counter(), images(4))
    assert [record.getMessage() for record in caplog.records] == ["stopped after [6] steps; at rest: [True]"]


def test_a_model_without_hidden_channels_is_watched_in_all_that_changes(randomise, noise):
    model = BasicNCAModel(num_image_channels=1, num_hidden_channels=0, num_output_channels=1, fire_rate=1.0)
    assert AutoStepper(1, 20, 4)(model, noise(1, 1, 6, 6)).steps.tolist() == [4]
    assert AutoStepper(1, 20, 4)(randomise(model, 0.5), noise(1, 1, 6, 6)).converged.tolist() == [False]


# Quality over steps ---------------------------------------------------------------------------------------------------


def error(pred, label):
    return (pred - label).abs().mean()


class Toward(nn.Module):
    """Moves the output channel 1 per step, for ever."""

    def forward(self, x):
        return torch.ones_like(x[:, 1:])


def walker():
    return model_of(Toward(), num_hidden_channels=0, num_output_channels=1)


def curve_of(data, steps, metric=error, **options):
    return quality_over_steps(walker(), data, metric, steps, **options)


def test_curve_is_known_and_the_first_step_near_the_best_is_chosen():
    curve = curve_of({"data": images(0), "label": images(4)}, 6, mode="lowest", eps=1.0)
    assert curve.steps == (1, 2, 3, 4, 5, 6)
    assert curve.values == (3.0, 2.0, 1.0, 0.0, 1.0, 2.0)
    assert (curve.best, curve.chosen) == (4, 3)
    assert curve.to_dict()["chosen"] == 3


def test_batches_are_averaged_by_their_samples():
    data = [{"data": images(0, 0, 0), "label": images(2, 2, 2)}, {"data": images(0), "label": images(6)}]
    curve = curve_of(iter(data), [0, 2, 4], mode="lowest")
    assert curve.values == (3.0, 1.0, 2.0)


def test_highest_is_best_by_default_ties_take_the_fewest_steps_and_nan_is_never_best():
    batch = {"data": images(0), "label": images(2)}
    curve = curve_of(batch, 5, lambda pred, label: (pred >= label).float().mean(), eps=0)
    assert curve.values == (0.0, 1.0, 1.0, 1.0, 1.0)
    assert (curve.best, curve.chosen) == (2, 2)
    curve = curve_of(batch, 4, lambda p, y: float("nan") if p.max() > 2 else float(p.max()))
    assert (curve.best, curve.chosen) == (2, 2)
    with pytest.raises(ConfigError, match="finite after no number of steps"):
        curve_of(batch, 4, lambda p, y: float("nan"))


def test_curve_equals_a_prediction_for_each_number(randomise, noise):
    model = randomise(BasicNCAModel(num_image_channels=1, num_hidden_channels=3, num_output_channels=1))
    batch = {"data": noise(2, 1, 6, 6), "label": noise(2, 1, 6, 6, seed=1)}
    curve = quality_over_steps(model, batch, mse, [2, 5], seed=4)
    for steps, value in zip(curve.steps, curve.values, strict=True):
        assert value == pytest.approx(float(mse(model.predict(batch["data"], steps, seed=4).pred, batch["label"])))


def test_what_cannot_be_stepped_or_measured_is_refused():
    pyramid = PyramidNCA(BasicNCAModel(num_image_channels=1, num_output_channels=1), scales=(2, 1), steps=(2, 2))
    batch = {"data": images(0), "label": images(1)}
    for call, error, message in (
        (lambda: AutoStepper(min_steps=20, max_steps=10), ConfigError, "min_steps is at most max_steps, not 20 with"),
        (lambda: AutoStepper(plateau=0), ConfigError, "plateau must be a whole number of at least 1, not 0"),
        (lambda: AutoStepper(threshold=0.0), ConfigError, "threshold must be a number above 0"),
        (lambda: AutoStepper()(pyramid, torch.zeros(1, 1, 8, 8)), ConfigError, "type BasicNCAModel, not PyramidNCA"),
        (lambda: curve_of(batch, 3, mode="lowst"), UnknownNameError, "Did you mean 'lowest'"),
        (lambda: curve_of(batch, []), ConfigError, "steps must be one or more whole numbers"),
        (lambda: curve_of([], 3), ConfigError, "no batch"),
        (lambda: curve_of({"data": images(0), "labl": images(0)}, 3), UnknownNameError, "'label'"),
    ):
        with pytest.raises(error, match=message):
            call()
