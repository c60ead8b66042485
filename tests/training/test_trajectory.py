"""A roll-out is trained on a sequence of targets, with whole or truncated back-propagation."""

import numpy as np
import pytest
import torch

from delira_nca.errors import ConfigError, ShapeError, UnknownNameError
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel
from delira_nca.rollout import rollout
from delira_nca.seeding import derive_seed
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import RolloutLoss
from delira_nca.training.trajectory import ChunkedTrajectoryTrainer, TrajectoryTrainer


def make_network():
    torch.manual_seed(0)
    settings = {"num_image_channels": 1, "num_hidden_channels": 3, "num_output_channels": 0, "hidden_size": 8}
    steps = {"training_timesteps": 6, "inference_timesteps": 6}
    network = BasicNCAModel(**settings, **steps, immutable_image_channels=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def make_batch(length=3, samples=2):
    source = np.random.default_rng(0)
    return {
        "data": source.random((samples, 1, 5, 5), dtype=np.float32),
        "label": source.random((samples, length, 1, 5, 5), dtype=np.float32),
    }


def make_trainer(cls=TrajectoryTrainer, network=None, path=None, **options):
    options = {"steps_per_target": 2, **options}
    return cls(network or make_network(), path, {"mse": mse}, torch.optim.SGD, {"lr": 0.1}, **options)


def gradient(trainer, batch):
    """Gradient of one training step of plain descent."""
    before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    trainer.train(1, [batch])
    return [(old - new.detach()) / 0.1 for old, new in zip(before, trainer.network.parameters(), strict=True)]


def whole_gradient(batch, *, cut=None):
    """The same by one roll-out for all targets, or by roll-outs from detached states."""
    network = make_network()
    seed = derive_seed(0, "rollout", "train", 0)
    state, loss = network.initial_state(torch.from_numpy(batch["data"]), seed), 0.0
    length = batch["label"].shape[1]
    for number in range(length):
        if cut and number % cut == 0:
            state = state.detach()
        state = rollout(state, network, 2, start=2 * number, seed=seed)
        loss = loss + mse(state[:, :1], torch.from_numpy(batch["label"][:, number])) / length
    parameters = list(network.parameters())
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize(("truncate", "cut"), [(None, None), (3, None), (7, None), (1, 1), (2, 2)])
def test_gradients_are_those_of_the_whole_back_propagation_or_of_its_parts(truncate, cut):
    batch = make_batch(3)
    found, expected = gradient(make_trainer(truncate=truncate), batch), whole_gradient(batch, cut=cut)
    whole = whole_gradient(batch)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    difference = max(float((a - b).abs().max()) for a, b in zip(found, whole, strict=True))
    assert (difference > 1e-4) == (cut is not None)


def test_one_target_is_an_ordinary_training():
    batch = make_batch(1)
    ours = gradient(make_trainer(steps_per_target=6), batch)
    plain = PyTorchNetworkTrainer(make_network(), None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1})
    theirs = gradient(plain, {**batch, "label": batch["label"][:, 0]})
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_losses_are_means_over_the_targets():
    batch = make_batch(3)
    trainer = make_trainer()
    frames = trainer.predict_sequence(batch["data"], 3, seed=derive_seed(0, "rollout", "valid", 0))
    expected = np.mean([float(mse(f, torch.from_numpy(batch["label"][:, n]))) for n, f in enumerate(frames)])
    assert trainer.predict([batch])[2]["mse"] == pytest.approx(expected, rel=1e-5)


def test_a_sequence_is_learned():
    frames = torch.zeros(1, 4, 1, 6, 6)
    for number in range(4):
        frames[0, number, 0, number + 1, 1:5] = 1.0
    batch = {"data": torch.zeros(1, 1, 6, 6).numpy(), "label": frames.numpy()}
    batch["data"][0, 0, 0, 1:5] = 1.0
    trainer = TrajectoryTrainer(
        make_network(), None, {"mse": mse}, torch.optim.Adam, {"lr": 5e-3}, steps_per_target=4, truncate=2
    )
    trainer.train(40, [batch] * 5)
    losses = [row["mse"] for row in trainer.history]
    assert losses[-1] < 0.5 * losses[0]


def test_a_resumed_training_is_the_one_that_was_not_stopped(tmp_path):
    data = [make_batch(5) for _ in range(2)]
    for cls in (TrajectoryTrainer, ChunkedTrajectoryTrainer):
        straight = make_trainer(cls, path=tmp_path / cls.__name__ / "a", truncate=2)
        straight.train(3, data)
        make_trainer(cls, path=tmp_path / cls.__name__ / "b", truncate=2).train(1, data)
        resumed = make_trainer(cls, path=tmp_path / cls.__name__ / "b", truncate=2)
        resumed.train(3, data, resume="auto")
        assert resumed.history == straight.history
        for ours, theirs in zip(resumed.network.parameters(), straight.network.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_the_chunked_trainer_makes_a_step_for_every_part_which_continues_the_number_of_the_step(monkeypatch):
    trainer, starts = make_trainer(ChunkedTrajectoryTrainer, truncate=2), []
    forward = trainer.network.forward

    def watched(*args, start, **given):
        starts.append(start)
        return forward(*args, start=start, **given)

    monkeypatch.setattr(trainer.network, "forward", watched)
    trainer.train(1, [make_batch(5)] * 2)
    assert starts == [0, 2, 4, 6, 8] * 2
    assert trainer.global_iter_num == 6


def test_a_chunked_training_checks_its_data():
    batch = make_batch()
    with pytest.raises(UnknownNameError, match="'label'"):
        make_trainer(ChunkedTrajectoryTrainer).train(1, [{"data": batch["data"]}])
    with pytest.raises(ConfigError, match="gave no batch"):
        make_trainer(ChunkedTrajectoryTrainer).train(1, [])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"truncate": 0}, "truncate must be a whole number of at least 1, not 0"),
        ({"steps_per_target": -1}, "-1"),
        ({"sequence_keys": "label"}, "names of entries of a batch"),
        ({"sequence_keys": ()}, "names of entries of a batch"),
    ],
)
def test_arguments_that_cannot_work_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        make_trainer(**options)


def test_what_it_cannot_train_is_refused():
    with pytest.raises(ConfigError, match="needs criterions"):
        TrajectoryTrainer(make_network(), None)
    trainer = make_trainer(callbacks=[RolloutLoss(torch.mean, name="overflow")])
    with pytest.raises(ConfigError, match="supports no terms over states: .'overflow'."):
        trainer.train(1, [make_batch()])
    batch = make_batch()
    with pytest.raises(ShapeError, match=r"must be a sequence of targets \(B, T, ...\), not \(2,\)"):
        make_trainer().train(1, [{**batch, "label": batch["label"][:, 0, 0, 0, 0]}])
    with pytest.raises(ShapeError, match="must have the same length"):
        make_trainer(sequence_keys=("label", "mask")).train(1, [{**batch, "mask": batch["label"][:, :2]}])
