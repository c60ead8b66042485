"""Training tricks, each by itself: it does something, and a run that is killed between iterations goes on with it."""

import pytest
import torch

from delira_nca.losses import mse, overflow
from delira_nca.models import BasicNCAModel, make_seed
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    ActivityLoss,
    BatchRepeat,
    Checkpoint,
    GradientClipping,
    GradientNormalization,
    IntermediateSupervision,
    LambdaCallback,
    LongRunSelection,
    PoolMutation,
    PoolUpdate,
    RolloutLoss,
    StateGradientNormalization,
    StepCurriculum,
    StepSampler,
    WeightAverage,
)

EPOCHS, ITERATIONS = 3, 3


def seeds(count=3):
    return make_seed(8, (6, 6)).expand(count, -1, -1, -1).clone()


def pool(**slots):
    return SamplePool(make_seed(8, (6, 6)), 7, slots=slots or None, rng_seed=5)


def spoil(**filled):
    """Callback that makes the states of two iterations dead, or far too large."""

    def fill(trainer, prediction, global_iter_num, train):
        if train and global_iter_num in (1, 4):
            prediction.output_image[:2] = filled["value"]

    return LambdaCallback(at_iter_end=fill)


def mutation():
    states = SamplePool(torch.zeros(8, 6, 6), 7, slots={"label": torch.zeros(7, 4, 6, 6)}, rng_seed=5)
    return [PoolMutation(states, num_image_channels=1, fresh=0.3, mutated=0.3)]


LONG = {"data": seeds(), "label": torch.rand(3, 4, 6, 6, generator=torch.Generator().manual_seed(3))}
PLAIN_POOL = {"num_seeds": 1, "reseed_dead": False}
TRICKS = {
    "step sampler": (lambda: [StepSampler(2, 9)], None),
    "growing curriculum": (lambda: [StepCurriculum((1, 2), (6, 9), epochs=3)], None),
    "pool": (lambda: [PoolUpdate(pool(), **PLAIN_POOL)], None),
    "damage": (lambda: [PoolUpdate(pool(), num_damaged=1)], lambda: [PoolUpdate(pool(), **PLAIN_POOL)]),
    "seed every third": (lambda: [PoolUpdate(pool(), seed_every=3)], lambda: [PoolUpdate(pool(), **PLAIN_POOL)]),
    "damage every second": (
        lambda: [PoolUpdate(pool(), num_damaged=1, damage_every=2)],
        lambda: [PoolUpdate(pool(), num_damaged=1)],
    ),
    "dead samples": (
        lambda: [spoil(value=0.0), PoolUpdate(pool(), num_seeds=0)],
        lambda: [spoil(value=0.0), PoolUpdate(pool(), num_seeds=0, reseed_dead=False)],
    ),
    "exploded samples": (
        lambda: [spoil(value=2.0), PoolUpdate(pool(), num_seeds=0, explode_above=1.9)],
        lambda: [spoil(value=2.0), PoolUpdate(pool(), num_seeds=0)],
    ),
    "mutation": (mutation, None),
    "intermediate supervision": (lambda: [IntermediateSupervision(at=(1, 0.5), weights=(1.0, 0.3))], None),
    "loss of states": (
        lambda: [RolloutLoss(lambda x: overflow(x, limit=0.1, reduction="mean"), name="overflow", num_steps=2)],
        None,
    ),
    "activity": (lambda: [ActivityLoss(10.0, num_steps=2)], None),
    "batch repeat": (lambda: [BatchRepeat(2)], None),
    "batch repeat with a pool": (
        lambda: [BatchRepeat(2), PoolUpdate(pool(), **PLAIN_POOL)],
        lambda: [PoolUpdate(pool(), **PLAIN_POOL)],
    ),
    "normalised gradients of states": (
        lambda: [StateGradientNormalization(), GradientClipping(1e-2)],
        lambda: [GradientClipping(1e-2)],
    ),
    "normalised gradients": (lambda: [GradientNormalization()], None),
    "clipped gradients": (lambda: [GradientClipping(1e-3)], None),
    "noise": (list, None),
    "mean of the weights": (lambda: [WeightAverage(0.5)], None),
    "long runs": (lambda: [LongRunSelection(LONG, factor=2, every=1)], None),
}
LOOKS_ON = {"mean of the weights", "long runs"}


def automaton(name):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = BasicNCAModel(
            num_image_channels=1 if name == "mutation" else 4,
            num_hidden_channels=3 if name == "mutation" else 4,
            num_output_channels=4 if name == "mutation" else 0,
            immutable_image_channels=name == "mutation",
            use_alive_mask=name != "mutation",
            rule=MLPRule(8),
            training_timesteps=(2, 5),
            inference_timesteps=3,
            update_noise=0.1 if name == "noise" else 0.0,
        )
        torch.nn.init.normal_(network.rule.last.weight, std=0.05)
    return network


def batches(name):
    rng = torch.Generator().manual_seed(1)
    labels = torch.rand(ITERATIONS, 3, 4, 6, 6, generator=rng)
    data = torch.rand(ITERATIONS, 3, 1, 6, 6, generator=rng) if name == "mutation" else [seeds()] * ITERATIONS
    return [{"data": x, "label": y} for x, y in zip(data, labels, strict=True)]


def run(name, tricks, folder=None, callbacks=(), **options):
    # plain descent: Adam would hide a factor of the gradient
    rate = {"lr": 0.5}
    everything = [*tricks(), *callbacks]
    trainer = PyTorchNetworkTrainer(
        automaton(name), folder, {"mse": mse}, torch.optim.SGD, rate, callbacks=everything, seed=3
    )
    trainer.train(EPOCHS, batches(name), **options)
    assert weights(trainer).isfinite().all()
    return trainer


def weights(trainer):
    return torch.cat([value.flatten() for value in trainer.network.state_dict().values()])


@pytest.mark.parametrize("name", sorted(TRICKS.keys() - LOOKS_ON))
def test_it_changes_what_is_learned(name):
    with_it, without_it = TRICKS[name]
    other = weights(run("plain" if name == "noise" else name, without_it or list))
    assert not torch.equal(weights(run(name, with_it)), other)


class Killed(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("name", TRICKS)
def test_a_run_that_is_killed_between_iterations_goes_on_exactly(name, tmp_path, assert_same):
    tricks, _ = TRICKS[name]

    def kill(trainer, global_iter_num, train):
        if train and global_iter_num == 5:  # the last of the second epoch
            raise Killed

    every = {"folder": tmp_path / "run", "resume": "auto"}
    with pytest.raises(Killed):
        run(name, tricks, callbacks=[Checkpoint(every_iterations=1), LambdaCallback(at_iter_begin=kill)], **every)
    torch.rand(11)  # what the global generators hold does not matter
    gone_on = run(name, tricks, callbacks=[Checkpoint(every_iterations=1)], **every)
    straight = run(name, tricks, tmp_path / "straight", [Checkpoint(every_iterations=1)])
    states = [trainer.state_dict() for trainer in (gone_on, straight)]
    for state in states:
        state.pop("circumstances", None)
        state["callbacks"].pop("Checkpoint")
    assert_same(*states)
    assert gone_on.global_iter_num == EPOCHS * ITERATIONS
