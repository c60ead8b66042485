"""Losses on states within a roll-out: their values, their gradients, and what they cost."""

import pytest
import torch

from delira_nca.errors import ConfigError
from delira_nca.losses import mse
from delira_nca.models import PyramidNCA
from delira_nca.models.inputs import interpret_range_parameter
from delira_nca.rollout import trajectory
from delira_nca.seeding import derive_seed, generator
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import ActivityLoss, IntermediateSupervision, RolloutLoss


@torch.no_grad()
def states_of(network, batch, iteration=0):
    """States of the roll-out of an iteration, as the trainer's seeds say."""
    seed = derive_seed(0, "rollout", "train", iteration)
    steps = interpret_range_parameter(network.training_timesteps, generator(seed, "steps"))
    x = torch.from_numpy(batch["data"])
    return trajectory(x, network, steps, keep=range(steps + 1), seed=seed), steps


@pytest.fixture
def first_values(make_trainer):
    """Values of a training of one epoch in which nothing is learned."""

    def values(network, data, *callbacks):
        trainer = make_trainer(
            network, callbacks=callbacks, optimizer_cls=torch.optim.SGD, optimizer_params={"lr": 0.0}
        )
        trainer.train(1, data)
        return trainer.history[0]

    return values


def test_states_on_the_way_are_judged_as_the_end_is_and_those_that_are_not_reached_do_not_count(
    first_values, batches, nca
):
    network, data = nca(training_timesteps=4), batches(3)
    values = first_values(network, data, IntermediateSupervision((1, 0.5), (0.5, 2.0)))
    states, _ = states_of(network, *data)
    label = torch.from_numpy(data[0]["label"])
    errors = {n: float(mse(state[:, :4], label)) for n, state in states.items()}
    assert values["mse"] == pytest.approx(errors[4], rel=1e-5)
    assert values["intermediate"] == pytest.approx(0.5 * errors[1] + 2.0 * errors[2], rel=1e-5)
    assert values["loss"] == pytest.approx(values["mse"] + values["intermediate"], rel=1e-5)
    assert first_values(network, data, IntermediateSupervision((9,)))["intermediate"] == 0.0


def test_the_networks_own_loss_judges_too(batches, nca):
    trainer = PyTorchNetworkTrainer(nca(training_timesteps=3), None, callbacks=[IntermediateSupervision()])
    trainer.train(1, batches(3))
    assert trainer.history[0]["intermediate"] > 0
    assert trainer.history[0].keys() == {"epoch", "mse", "intermediate", "loss"}


def test_activity_is_the_mean_change_between_steps_and_any_function_of_a_state_can_join(first_values, batches, nca):
    network, data = nca(training_timesteps=5), batches(3)
    size = RolloutLoss(mean_square, name="size", num_steps=None)
    values = first_values(network, data, ActivityLoss(10.0, num_steps=None), size)
    states, steps = states_of(network, *data)
    changes = [float((states[n] - states[n - 1]).abs().mean()) for n in range(1, steps + 1)]
    assert values["activity"] == pytest.approx(10 * sum(changes) / 5, rel=1e-5)
    sizes = [float(mean_square(states[n])) for n in range(1, steps + 1)]
    assert values["size"] == pytest.approx(sum(sizes) / 5, rel=1e-5)


def test_drawn_steps_estimate_the_mean_and_differ_from_iteration_to_iteration():
    term = ActivityLoss(num_steps=2)
    drawn = [tuple(sorted(set(term.stops(20, seed)))) for seed in range(200)]
    assert len(set(drawn)) > 100
    assert all(len(steps) <= 4 for steps in drawn)
    assert drawn[0] == tuple(term.stops(20, 0))
    counted = {n for seed in range(200) for n in RolloutLoss(torch.mean, name="x", num_steps=2).stops(20, seed)}
    assert counted == set(range(1, 21))


def mean_square(state):
    return state.square().mean()


def test_a_term_changes_what_is_learned_and_is_gone_afterwards(make_trainer, batches):
    weights = []
    for callbacks in ([], [IntermediateSupervision()]):
        trainer = make_trainer(callbacks=callbacks)
        trainer.train(2, batches(3), batches(2))
        weights.append(trainer.network.rule.last.weight)
        assert trainer.loss_terms == {}
        assert "val_intermediate" not in trainer.history[0]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("patch", [None, 4])
def test_all_levels_of_a_pyramid_are_looked_at_and_its_finest_is_judged(first_values, patch, nca):
    coarse, fine = (nca(seed, alive=None, num_hidden_channels=4, fire_rate=1.0) for seed in (0, 1))
    pyramid = PyramidNCA([coarse, fine], [2, 1], [3, 2], patch_size=patch)
    batch = {"data": torch.rand(2, 4, 8, 8), "label": torch.rand(2, 4, 8, 8)}
    shapes = []

    def look(states):
        shapes.append(tuple(states.shape[2:]))
        return mean_square(states)

    terms = [IntermediateSupervision(at=(1,)), RolloutLoss(look, name="size", num_steps=None), ActivityLoss(0.5)]
    found = first_values(pyramid, [batch], *terms)
    finest = (8, 8) if patch is None else (4, 4)
    assert shapes == [(4, 4)] * 3 + [finest] * 2
    assert found["loss"] == pytest.approx(sum(found[name] for name in ("mse", "intermediate", "size", "activity")))
    if patch is None:
        states = [p.output_image for p in pyramid.record(batch["data"], keep=[1, 2, 3, 4, 5])]
        assert found["intermediate"] == pytest.approx(float(mse(states[3][:, :4], batch["label"])), rel=1e-5)
        assert found["size"] == pytest.approx(sum(float(mean_square(x)) for x in states) / 5, rel=1e-5)


@pytest.mark.parametrize("patch", [None, 6])
def test_an_image_that_no_scale_divides_is_judged_on_its_own_cells(first_values, patch, nca):
    coarse, fine = (nca(seed, alive=None, num_hidden_channels=4, fire_rate=1.0) for seed in (0, 1))
    pyramid = PyramidNCA([coarse, fine], [4, 1], [2, 3], patch_size=patch)
    batch = {"data": torch.rand(2, 4, 9, 6), "label": torch.rand(2, 4, 9, 6)}
    found = first_values(pyramid, [batch], IntermediateSupervision(at=(1,)))
    assert found["loss"] == pytest.approx(found["mse"] + found["intermediate"])
    if patch is None:
        (early,) = pyramid.record(batch["data"], keep=[3])
        assert found["intermediate"] == pytest.approx(float(mse(early.pred, batch["label"])), rel=1e-5)


def test_a_name_that_is_taken_is_refused(make_trainer, batches):
    with pytest.raises(ConfigError, match="there is a loss 'mse' already"):
        make_trainer(callbacks=[ActivityLoss(name="mse")]).train(1, batches(2))
    with pytest.raises(ConfigError, match="there is a loss 'activity' already"):
        make_trainer(callbacks=[ActivityLoss(), ActivityLoss()]).train(1, batches(2))


def test_networks_without_roll_outs_or_with_their_own_step_are_refused(
    linear_network, linear_trainer, linear_batches, plain_trainer
):
    with pytest.raises(ConfigError, match="LinearNetwork computes none"):
        linear_trainer(linear_network(), callbacks=[ActivityLoss()]).train(1, linear_batches())

    class Own(linear_network):
        @staticmethod
        def closure(*args, **kwargs):
            return {}, {}, None

    with pytest.raises(ConfigError, match="Own has a closure of its own"):
        linear_trainer(Own(), callbacks=[ActivityLoss()]).train(1, linear_batches())
    with pytest.raises(ConfigError, match="needs a trainer with loss_terms"):
        plain_trainer(callbacks=[ActivityLoss()]).train(1, [{"data": [1]}])
