"""Trainings that are the same for one process and for several: called by the tests here, and by ``run.py`` there."""

import numpy as np
import torch

from delira_nca.data_loading import DataManager, DictDataset
from delira_nca.losses import mse, overflow, rmse
from delira_nca.models import BasicNCAModel, make_seed, presets
from delira_nca.models.pytorch_network import AbstractPyTorchNetwork
from delira_nca.models.rule import MLPRule
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import (
    ActivityLoss,
    EarlyStopping,
    GradientClipping,
    IntermediateSupervision,
    LambdaCallback,
    LRSchedulerCallback,
    NaNGuard,
    PoolMutation,
    PoolUpdate,
    RolloutLoss,
    StepSampler,
    WeightAverage,
)
from delira_nca.training.distributed import PerSample, WholeBatch

SIDE = 6


def automaton(**changes):
    """An automaton of 8 channels whose last layer is not zero."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        arguments = {"num_hidden_channels": 4, "rule": MLPRule(8), "training_timesteps": (2, 5)}
        network = BasicNCAModel(**presets.growing(**arguments, inference_timesteps=3, **changes))
        torch.nn.init.normal_(network.rule.last.weight, std=0.05)
    return network


def samples(number, seed=0):
    """States that live, and labels, of so many samples."""
    rng = np.random.default_rng(seed)
    data = rng.random((number, 8, SIDE, SIDE), dtype=np.float32)
    data[:, 3] = 1.0
    return {"data": data, "label": rng.random((number, 4, SIDE, SIDE), dtype=np.float32)}


def ratio(pred, label):
    """A metric that is no mean over samples."""
    return (pred * label).sum() / (pred.square().sum() + label.square().sum())


def count(pred, label):
    """How many samples it is called with."""
    return torch.tensor(float(len(pred)))


def summary(trainer):
    """What is compared of a training: its weights, its history, and what the process holds of its pool."""
    found = {"weights": dict(trainer.network.state_dict()), "history": trainer.history}
    for update in (callback for callback in trainer.callbacks if isinstance(callback, PoolUpdate)):
        found |= {
            "states": update.pool.states.clone(),
            "labels": update.pool.slots.get("label", torch.zeros(0)).clone(),
        }
        found["exploded"] = update.num_exploded
    return found


def pool_trainer(folder, *callbacks):
    """Trainer with a pool, damage, a schedule that follows a score, averaged weights, and guards."""
    pool = SamplePool(make_seed(8, (SIDE, SIDE)), 11, slots={"number": torch.arange(11.0)})
    return PyTorchNetworkTrainer(
        automaton(),
        folder,
        {"mse": mse},
        torch.optim.Adam,
        {"lr": 1e-2},
        metrics={"ratio": WholeBatch(ratio), "count": WholeBatch(count), "rmse": rmse},
        callbacks=[
            NaNGuard(),
            PoolUpdate(pool, explode_above=1.2),
            GradientClipping(0.5),
            LRSchedulerCallback(torch.optim.lr_scheduler.ReduceLROnPlateau, {"patience": 0}, monitor_key="val_mse"),
            WeightAverage(0.9),
            EarlyStopping("val_mse", patience=2),
            *callbacks,
        ],
    )


def train_with_a_pool(folder, num_epochs=4, resume="never", callbacks=()):
    """Batches of 5, 5 and 1: no two processes can halve them, and one has nothing to do in the last."""
    trainer = pool_trainer(folder, *callbacks)
    train, valid = DataManager(samples(11), 5), DataManager(samples(7, seed=1), 3)
    trainer.train(num_epochs, train, valid, "val_mse", "lowest", resume=resume)
    return trainer


def train_with_damage():
    """A pool that is hardly larger than a batch, of which the best have holes and the dead and large begin anew."""
    pool = SamplePool(make_seed(8, (SIDE, SIDE)), 7)
    update = PoolUpdate(pool, num_seeds=1, num_damaged=3, damage="mixed", explode_above=1.01)
    trainer = PyTorchNetworkTrainer(
        automaton(), None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1}, callbacks=[NaNGuard("skip"), update]
    )
    trainer.train(2, [samples(5)] * 4)
    return trainer


def train_with_mutation():
    """A pool of which a part is fresh and a part gets other images; batches of 5, which cannot be halved."""
    image, number = {"num_image_channels": 1, "immutable_image_channels": True}, 9
    network = automaton(**image, num_output_channels=4, alive=None)
    pool = SamplePool(torch.zeros(9, SIDE, SIDE), number, slots={"label": torch.zeros(number, 4, SIDE, SIDE)})
    mutation = PoolMutation(pool, num_image_channels=1, fresh=0.4, mutated=0.4, explode_above=2.0)
    trainer = PyTorchNetworkTrainer(
        network, None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1}, callbacks=[StepSampler(2, 6), mutation]
    )
    batches = [samples(5, seed) for seed in range(3)]
    trainer.train(2, [{"data": batch["data"][:, :1], "label": batch["label"]} for batch in batches])
    return trainer


def train_with_terms():
    """Losses of states on the way, each a mean over samples."""
    terms = [
        IntermediateSupervision(at=(1, 0.5), weights=(1.0, 0.3)),
        ActivityLoss(2.0, num_steps=2),
        RolloutLoss(lambda states: overflow(states, limit=0.2, reduction="mean"), name="overflow", num_steps=2),
    ]
    trainer = PyTorchNetworkTrainer(automaton(), None, {"mse": mse}, torch.optim.SGD, {"lr": 0.1}, callbacks=terms)
    trainer.train(2, [samples(5), samples(4, seed=1), samples(1, seed=2)])
    return trainer


class Watched(DictDataset):
    """Remembers which samples were asked for."""

    def __init__(self, data):
        super().__init__(data)
        self.asked = []

    def take(self, indices):
        self.asked += [int(index) for index in indices]
        return super().take(indices)


def shake(batch):
    """A transform that draws from numpy's global generator."""
    return {**batch, "data": batch["data"] * np.random.rand(), "label": batch["label"] + np.random.rand()}


def augmented(is_per_sample):
    """What a training is given of data that are augmented, and which samples were loaded for that."""
    seen, data = [], Watched(samples(5))
    watch = LambdaCallback(
        at_iter_begin=lambda trainer, data_dict: seen.append(data_dict["label"][: _own(trainer, data_dict)])
    )
    trainer = PyTorchNetworkTrainer(automaton(), None, {"mse": mse}, callbacks=[watch])
    trainer.train(1, DataManager(data, 4, transforms=PerSample(shake) if is_per_sample else shake))
    return seen, data.asked


def _own(trainer, batch):
    part = getattr(trainer.ranks, "_part", None)
    return len(batch["label"]) if part is None else part.size


class Adversaries(AbstractPyTorchNetwork):
    """Two parts with an optimizer each, and a closure of its own."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.generator, self.critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)

    @staticmethod
    def closure(model, data_dict, optimizers, criterions, metrics, fold=0, batch_nr=0, *, keys, precision, seed):
        fake = model.generator(data_dict["data"])
        critic_loss = (model.critic(fake.detach()) - model.critic(data_dict["label"])).square().mean()
        generator_loss = -model.critic(fake).tanh().mean()
        for name, loss in (("critic", critic_loss), ("generator", generator_loss)):
            if optimizers:
                optimizers[name].zero_grad()
                loss.backward(inputs=list(getattr(model, name).parameters()), retain_graph=True)
        for optimizer in optimizers.values():
            optimizer.step()
        losses = {"critic": critic_loss.detach(), "generator": generator_loss.detach()}
        return {}, {**losses, "loss": sum(losses.values())}, fake.detach()


def train_adversaries():
    """Several optimizers, on a list of batches, the last of one sample."""

    def one_for_each(network, cls, **params):
        return {part: cls(getattr(network, part).parameters(), **params) for part in ("generator", "critic")}

    rng = np.random.default_rng(0)
    data = [{key: rng.random((n, 2), dtype=np.float32) for key in ("data", "label")} for n in (5, 4, 1)]
    trainer = PyTorchNetworkTrainer(
        Adversaries(), None, {"none": mse}, torch.optim.Adam, {"lr": 0.05}, optim_fn=one_for_each
    )
    trainer.train(3, data)
    return trainer


class PartlyUsed(AbstractPyTorchNetwork):
    """A layer that no loss sees, and a batch norm, whose buffers change."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.used, self.unused = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
            self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, x):
        return self.used(x) + 0.0 * self.norm(self.used(x).detach())


def train_partly_used():
    """Weight decay would move the weights that have no gradient."""
    rng = np.random.default_rng(0)
    data = [{"data": rng.random((4, 3), dtype=np.float32), "label": rng.random((4, 1), dtype=np.float32)}] * 3
    options = {"lr": 0.1, "weight_decay": 0.1}
    trainer = PyTorchNetworkTrainer(PartlyUsed(), None, {"mse": mse}, torch.optim.SGD, options)
    trainer.train(2, data)
    return trainer


def predict():
    """Predictions of all samples, in order; the noise in the hidden channels is drawn for a whole batch."""
    network = automaton(pad_noise=True, update_noise=0.1)
    trainer = PyTorchNetworkTrainer(network, None, {"mse": mse})
    data = samples(6)
    batches = [{"data": data["data"][a:b, :4], "label": data["label"][a:b]} for a, b in ((0, 5), (5, 6))]
    shared, labels, means = trainer.predict(batches, share=True)
    return {"shared": shared, "labels": labels, "means": means, "alone": trainer.predict(batches)[0]}


COMPARED = {
    "damage": train_with_damage,
    "mutation": train_with_mutation,
    "terms": train_with_terms,
    "adversaries": train_adversaries,
}
"""Trainings of which several processes have to come to the same as one."""
