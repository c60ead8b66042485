"""What is done about numbers that are not finite, and the state of a run in memory."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from torch.optim import lr_scheduler

from delira_nca.errors import NonFiniteError
from delira_nca.io import load_checkpoint
from delira_nca.losses import mse
from delira_nca.models import make_seed
from delira_nca.training import SamplePool
from delira_nca.training.callbacks import (
    AbstractCallback,
    Checkpoint,
    EarlyStopping,
    GradientClipping,
    GradientNormalization,
    LambdaCallback,
    LRSchedulerCallback,
    NaNGuard,
    PoolUpdate,
    TimeLimit,
    WeightAverage,
)
from delira_nca.training.callbacks.nan_guard import restore_snapshot, scale_learning_rates, take_snapshot

NAN, INF = float("nan"), float("inf")
POLICIES = ("raise", "skip", "rollback")
PLACES = ("input", "loss", "loss only", "gradient", "state", "score")


class Bad(torch.autograd.Function):
    """Nothing on the way forward; a gradient that is not finite on the way back."""

    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(gradient, ctx.value), None


class Spoiler(AbstractCallback):
    """Puts a NaN into one place of some iterations of training, or epochs of validation."""

    def __init__(self, place, when=(), epochs=(), value=NAN):
        self.place, self.when, self.epochs, self.value = place, set(when), set(epochs), value
        self.is_now = False

    def at_iter_begin(self, trainer, data_dict, train, global_iter_num, curr_epoch):
        self.is_now = global_iter_num in self.when if train else curr_epoch in self.epochs
        if self.is_now and self.place == "input":
            data = torch.as_tensor(data_dict["data"]).clone()
            data[1, 0, 2, 2] = self.value
            return {"data_dict": {**data_dict, "data": data}}
        return None

    def at_training_begin(self, trainer):
        if self.place == "state":
            own = type(trainer.network).forward_batch

            def spoilt(data_dict, **kwargs):
                prediction, parts = own(trainer.network, data_dict, **kwargs)
                if self.is_now:
                    states = prediction.output_image.detach().clone()
                    states[1, -1, 3, 3] = self.value
                    prediction.output_image = states
                return prediction, parts

            trainer.network.forward_batch = spoilt

    def loss(self, pred, label):
        if self.is_now and self.place == "loss":
            return mse(pred, label) * self.value
        if self.is_now and self.place == "loss only":
            return mse(pred, label) + self.value
        return mse(Bad.apply(pred, self.value) if self.is_now and self.place == "gradient" else pred, label)

    def score(self, pred, label):
        return mse(pred, label) * (self.value if self.is_now and self.place == "score" else 1.0)


class Keeper(AbstractCallback):
    """Copies of the state before each iteration of training, when all who come before it are done."""

    def __init__(self):
        self.states, self.rates = {}, {}

    def at_iter_begin(self, trainer, train, global_iter_num):
        if train:
            self.states[global_iter_num] = state = copy.deepcopy(trainer.state_dict())
            self.rates[global_iter_num] = state["optimizers"]["default"]["param_groups"][0]["lr"]


class Counter(AbstractCallback):
    """Counts iterations of training, sums their losses, and has nothing to say before the first."""

    def __init__(self, rolls_back=True):
        self.losses, self.count, self.rolls_back = torch.zeros(2), 0, rolls_back

    def at_iter_end(self, trainer, train, metrics):
        if train:
            self.losses, self.count = self.losses + metrics["loss"], self.count + 1

    def state_dict(self):
        return {"losses": self.losses, "count": self.count} if self.count else {}

    def load_state_dict(self, state):
        self.losses, self.count = state["losses"], state["count"]


@pytest.fixture
def make_run(make_trainer):
    """Makes trainers with a guard, and a callback that spoils something; a pool of 6 states if asked for."""

    def make(policy, place="loss", when=(), epochs=(), value=NAN, pool=False, more=(), guard=None, **changes):
        spoiler = Spoiler(place, when, epochs, value)
        guards = [] if policy is None else [NaNGuard(policy, **(guard or {}))]
        pools = [PoolUpdate(SamplePool(make_seed(8, (6, 6)), 6, rng_seed=2))] if pool else []
        arguments = {"criterions": {"mse": spoiler.loss}, "metrics": {"score": spoiler.score}, **changes}
        return make_trainer(callbacks=[*guards, *pools, *more, spoiler], **arguments)

    return make


def _of(trainer, cls):
    return next(callback for callback in trainer.callbacks if isinstance(callback, cls))


def _guard(trainer):
    """Numbers of events and of rollbacks."""
    guard = _of(trainer, NaNGuard)
    return guard.num_events, guard.num_rollbacks


def _rate(trainer):
    return trainer.optimizers["default"].param_groups[0]["lr"]


TEXTS = {
    "input": "the input of sample 1 is not finite in iteration 1 of epoch 2; no weight was changed",
    "loss": r"the gradient of .* is not finite in iteration 1 of epoch 2; no weight was changed",
    "loss only": "mse is nan in iteration 1 of epoch 2",
    "gradient": r"the gradient of .* is not finite in iteration 1 of epoch 2; no weight was changed",
    "state": "the state of sample 1 is not finite in iteration 1 of epoch 2",
    "score": "score is nan in iteration 1 of epoch 2",
}


@pytest.mark.parametrize("place", PLACES)
def test_it_raises_where_and_what(make_run, batches, place):
    keeper = Keeper()
    trainer = make_run("raise", place, when=[4], more=[keeper])
    with pytest.raises(NonFiniteError, match=TEXTS[place]):
        trainer.train(2, batches(3, 3, 3))
    assert trainer.global_iter_num == 4
    assert len(trainer.history) == 1
    if place in ("input", "loss", "gradient"):
        before, after = keeper.states[4]["network"], trainer.network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_gradient_that_is_not_finite_is_named(make_run, batches, value):
    trainer = make_run("raise", "gradient", when=[0], value=value, more=[GradientNormalization()])
    with pytest.raises(NonFiniteError, match=r"the gradient of rule\.hidden\.0\.weight is not finite in iteration 0"):
        trainer.train(1, batches(3))


def test_a_batch_that_was_not_finite_already_is_named_too(make_trainer, batches):
    data = batches(3, 3)
    data[1]["data"][0, 0, 0, 0] = NAN
    with pytest.raises(NonFiniteError, match=r"no weight was changed; the batch's 'data' is not finite either"):
        make_trainer(callbacks=[NaNGuard()]).train(1, data)


def test_validation_the_values_of_an_epoch_and_states_that_a_callback_spoils_are_guarded_too(make_run, batches):
    def spoil(trainer, train, prediction, global_iter_num):
        if train and global_iter_num == 1:
            prediction.output_image[-1, 5, 0, 0] = NAN

    runs = {
        "mse is nan in iteration 0 of epoch 2": make_run("raise", "loss", epochs=[2]),
        "drift is inf in epoch 2": _drifting(make_run("raise"), INF),
        "the state of sample 2 is not finite in iteration 1 of epoch 1": make_run(
            None, more=[LambdaCallback(at_iter_end=spoil), NaNGuard()]
        ),
    }
    for text, trainer in runs.items():
        with pytest.raises(NonFiniteError, match=text):
            trainer.train(3, batches(3, 3), batches(3))


def _drifting(trainer, value):
    """Measures something of its own, which is not finite in epoch 2."""
    own = trainer._train_single_epoch

    def measure(batchgen, epoch, *args):
        return {**own(batchgen, epoch, *args), "drift": value if epoch == 2 else 0.0}

    trainer._train_single_epoch = measure
    return trainer


def test_states_and_gradients_whose_sum_overflows_are_finite_and_inputs_of_dead_cells_are_seen(make_trainer):
    def end(data, states):
        prediction = SimpleNamespace(output_image=states)
        NaNGuard().at_iter_end(make_trainer(), train=True, metrics={}, data_dict={"data": data}, prediction=prediction)

    large, bad = torch.full((2, 3, 4), 3e38), torch.zeros(2, 3, 4)
    bad[1, 0, 0] = NAN
    end(large, large)
    with pytest.raises(NonFiniteError, match="the state of sample 1 is not finite"):
        end(large, large + bad)
    with pytest.raises(NonFiniteError, match="the input of sample 1 is not finite"):
        end(bad, torch.zeros(2, 3, 4))
    NaNGuard().before_step(None, [])
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3e38, 3e38])
    NaNGuard().before_step(SimpleNamespace(network=torch.nn.Linear(1, 1)), [parameter])
    assert parameter.grad.tolist() == pytest.approx([3e38, 3e38])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_healthy_run_is_the_same_with_and_without_it(make_run, batches, assert_same, policy):
    states = []
    for guard in (policy, None):
        more = [GradientClipping(0.5), WeightAverage(0.8), Counter()]
        trainer = make_run(guard, pool=True, more=more, guard={"every": 2})
        trainer.train(3, batches(4, 4, 4), batches(3), val_score_key="mse", val_score_mode="lowest")
        state = copy.deepcopy(trainer.state_dict())
        state["callbacks"].pop("NaNGuard", None)
        states.append(state)
    assert_same(*states)


OPTIMIZERS = {
    "adam": (torch.optim.Adam, {"lr": 1e-2}, {}),
    "adamw": (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}, {}),
    "amsgrad": (torch.optim.Adam, {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": True, "foreach": False}, {}),
    "sgd": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}, {}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.1, "centered": True}, {}),
    "bfloat16": (torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}, {"mixed_precision": True}),
}


@pytest.mark.processor
@pytest.mark.parametrize("place", ["input", "loss", "gradient"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.usefixtures("any_processor")
def test_a_step_that_is_left_out_moves_nothing(make_run, batches, assert_same, name, place):
    cls, params, changes = OPTIMIZERS[name]
    keeper = Keeper()
    more = [keeper, GradientNormalization(), GradientClipping(1.0)]
    trainer = make_run("skip", place, [3], optimizer_cls=cls, optimizer_params=params, more=more, **changes)
    trainer.train(1, batches(3, 3, 3, 3, 3, 3))
    for part in ("network", "optimizers"):
        assert_same(keeper.states[3][part], keeper.states[4][part])
        assert not torch.equal(*(_weights(keeper.states[n]) for n in (2, 3)))
        assert not torch.equal(*(_weights(keeper.states[n]) for n in (4, 5)))
    assert torch.isfinite(_weights(trainer.state_dict())).all()
    assert _guard(trainer)[0] == 1


def _weights(state):
    return state["network"]["rule.hidden.0.weight"]


MESSAGE = "the gradient of rule.hidden.0.weight is not finite in iteration"
UNSEEN = "no gradient was seen that is not finite"


@pytest.mark.parametrize(
    ("policy", "place", "when", "options", "expected"),
    [
        ("skip", "loss", [1, 2], {}, [f"{MESSAGE} {n} of epoch 1; the step is left out" for n in (1, 2)]),
        (
            "skip",
            "loss only",
            [1],
            {},
            [f"mse is nan in iteration 1 of epoch 1; {UNSEEN}"],
        ),
        (
            "rollback",
            "gradient",
            [3],
            {"lr_factor": 0.25},
            [f"{MESSAGE} 3 of epoch 1; back to the last snapshot, learning rates times 0.25 (rollback 1 of 3)"],
        ),
    ],
)
def test_what_it_does_is_told(make_run, batches, caplog, logged, policy, place, when, options, expected):
    trainer = make_run(policy, place, when=when, guard=options)
    with caplog.at_level(logging.WARNING, "delira_nca"):
        trainer.train(1, batches(3, 3, 3, 3, 3))
    assert [record.message for record in logged()] == expected
    assert _guard(trainer) == (len(expected), len(expected) if policy == "rollback" else 0)
    assert trainer.global_iter_num == 5
    assert _rate(trainer) == pytest.approx(2.5e-3 if policy == "rollback" else 1e-2)


def test_states_that_are_not_finite_do_not_get_into_the_pool(make_run, batches):
    trainer = make_run("skip", "state", when=[2, 4], pool=True)
    trainer.train(1, batches(4, 4, 4, 4, 4, 4))
    update = _of(trainer, PoolUpdate)
    assert torch.isfinite(update.pool.states).all()
    assert update.num_exploded == 2
    assert _guard(trainer)[0] == 2


def test_a_slot_of_a_state_that_is_not_finite_holds_the_seed(make_run, batches):
    trainer = make_run("skip", "state", when=[0], pool=True)
    trainer.train(1, batches(6))
    pool = _of(trainer, PoolUpdate).pool
    anew = [bool(torch.equal(state, pool.seed)) for state in pool.states]
    assert sum(anew) == 1
    assert pool.losses[anew.index(True)] == INF
    assert torch.isfinite(pool.losses).sum() == 5


def test_running_means_are_not_spoilt(linear_batches, linear_trainer, linear_network):
    class Normalised(linear_network):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)

        def forward(self, x):
            return self.layer(self.norm(x))

    keeper = Keeper()
    data = linear_batches(4, 4, 4)
    data[1]["data"][2, 0] = NAN
    network = Normalised()
    trainer = linear_trainer(network, callbacks=[NaNGuard("skip"), keeper], optimizer_params={"lr": 0.1})
    trainer.train(1, data)
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "layer.weight", "norm.weight"):
        assert torch.equal(keeper.states[1]["network"][name], keeper.states[2]["network"][name])
    assert int(network.norm.num_batches_tracked) == 2
    assert torch.isfinite(network.norm.running_mean).all()


def test_no_optimizer_steps_after_one_that_did_not(make_run, batches, assert_same):
    def one_for_each_layer(network, cls, **params):
        parts = {"hidden": network.rule.hidden.parameters(), "last": network.rule.last.parameters()}
        return {name: cls(part, **params) for name, part in parts.items()}

    def spoil_hidden(trainer):
        def spoil(gradient):
            return gradient * NAN if trainer.global_iter_num == 2 else gradient

        trainer.network.rule.hidden[0].weight.register_hook(spoil)

    def keep(trainer, global_iter_num):
        states[global_iter_num] = copy.deepcopy(dict(trainer.network.state_dict()))

    states, watch = {}, LambdaCallback(at_training_begin=spoil_hidden, at_iter_begin=keep)
    trainer = make_run("skip", more=[watch], optim_fn=one_for_each_layer)
    trainer.train(1, batches(3, 3, 3, 3))
    assert_same(states[2], states[3])
    assert _guard(trainer)[0] == 1


def test_a_run_that_learns_nothing_any_more_ends(make_run, batches):
    trainer = make_run("skip", "loss", when=range(3, 100), guard={"every": 4})
    with pytest.raises(NonFiniteError, match="iteration 2 of epoch 2, and so it was in 4 iterations in a row"):
        trainer.train(9, batches(3, 3, 3, 3))
    finite_between = make_run("skip", "loss", when=[1, 2, 3, 5, 6, 7, 9, 10, 11], guard={"every": 4})
    finite_between.train(3, batches(3, 3, 3, 3))
    assert _guard(finite_between)[0] == 9


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.usefixtures("any_processor")
def test_a_gradient_scaler_leaves_the_step_out_itself(make_run, batches, assert_same, policy):
    keeper, half = Keeper(), {"dtype": "float16", "scaler": {"init_scale": 8.0}}
    trainer = make_run(policy, when=[2], more=[keeper], mixed_precision=True, mixed_precision_kwargs=half)
    trainer.train(1, batches(3, 3, 3, 3))
    assert trainer.precision.scaler.get_scale() == 4.0
    back_to = 2 if policy == "skip" else 0
    assert_same(keeper.states[back_to]["network"], keeper.states[3]["network"])
    assert not torch.equal(_weights(keeper.states[0]), _weights(keeper.states[1]))
    assert _guard(trainer)[0] == 1


@pytest.mark.parametrize("place", ["input", "loss", "loss only", "gradient", "state"])
def test_the_run_goes_back_to_exactly_the_snapshot(make_run, batches, assert_same, place):
    keeper, has_pool = Keeper(), place != "input"
    more = [WeightAverage(0.8), Counter()]
    trainer = make_run("rollback", place, when=[5], pool=has_pool, more=more, guard={"every": 2})
    row = (keeper, keeper.at_iter_begin, frozenset({"train", "global_iter_num"}))
    trainer._callbacks._table["at_iter_begin"].insert(1, row)  # right after the guard
    trainer.train(2, batches(4, 4, 4, 4))
    before, after = keeper.states[4], keeper.states[6]
    assert not torch.equal(_weights(before), _weights(keeper.states[5]))
    assert_same(before["network"], after["network"])
    assert_same(before["optimizers"]["default"]["state"], after["optimizers"]["default"]["state"])
    for name in ("WeightAverage", "Counter"):
        assert_same(before["callbacks"][name], after["callbacks"][name])
    if has_pool:
        pools = [state["callbacks"]["PoolUpdate"] for state in (before, after)]
        assert_same(*({k: pool[k] for k in ("states", "losses", "slots")} for pool in pools))
        assert [pool["num_draws"] for pool in pools] == [4, 6]
    assert (keeper.rates[5], keeper.rates[6]) == (1e-2, 5e-3)
    assert (after["global_iter_num"], trainer.global_iter_num) == (6, 8)
    assert not torch.equal(_weights(after), _weights(keeper.states[7]))
    assert _guard(trainer)[1] == 1
    assert torch.isfinite(_weights(trainer.state_dict())).all()


def test_it_gives_up_after_so_many_rollbacks(make_run, batches):
    trainer = make_run("rollback", "loss", when=range(4, 100), guard={"every": 3, "max_rollbacks": 2})
    with pytest.raises(NonFiniteError, match="iteration 2 of epoch 2, after 2 rollbacks without 3 finite iterations"):
        trainer.train(9, batches(3, 3, 3, 3))
    assert _guard(trainer)[1] == 2
    assert _rate(trainer) == pytest.approx(2.5e-3)


def test_rollbacks_are_forgotten_after_a_finite_interval(make_run, batches):
    trainer = make_run("rollback", "loss", when=[2, 6, 10, 14], guard={"every": 3, "max_rollbacks": 1})
    trainer.train(4, batches(3, 3, 3, 3))
    assert _guard(trainer)[1] == 4
    sooner = make_run("rollback", "loss", when=[2, 5], guard={"every": 3, "max_rollbacks": 1})
    with pytest.raises(NonFiniteError, match="after 1 rollbacks"):
        sooner.train(4, batches(3, 3, 3, 3))


def test_neither_fire_masks_nor_draws_are_met_again(make_run, batches, assert_same, nca):
    ended, keeper = [], Keeper()
    watch = LambdaCallback(at_iter_end=lambda trainer, prediction: ended.append(prediction.output_image))
    network = nca(training_timesteps=(3, 4))
    make_run("rollback", when=[0], pool=True, more=[watch, keeper], network=network).train(1, batches(4, 4, 4))
    first, second = (keeper.states[n]["callbacks"]["PoolUpdate"] for n in (0, 1))
    assert (first["num_draws"], second["num_draws"]) == (1, 2)
    assert_same(*({k: pool[k] for k in ("states", "losses")} for pool in (first, second)))
    assert_same(keeper.states[0]["network"], keeper.states[1]["network"])
    assert not torch.equal(ended[0], ended[1])  # of the same weights, of seeds alike


SCHEDULES = {
    "step": (lr_scheduler.StepLR, {"step_size": 2, "gamma": 0.5}),
    "cosine": (lr_scheduler.CosineAnnealingLR, {"T_max": 12}),
    "lambda": (lr_scheduler.LambdaLR, {"lr_lambda": lambda step: 1 / (1 + step)}),
    "restarts": (lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": 4}),
    "one_cycle": (lr_scheduler.OneCycleLR, {"max_lr": 0.02, "total_steps": 20, "cycle_momentum": False}),
    "cyclic": (lr_scheduler.CyclicLR, {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 3, "cycle_momentum": False}),
    "sequential": (
        lambda optimizer: lr_scheduler.SequentialLR(
            optimizer,
            [lr_scheduler.ConstantLR(optimizer, 0.1), lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)],
            [7],
        ),
        {},
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_below_what_it_was(make_run, batches, name):
    rates = []
    for when in ([], [4]):
        keeper = Keeper()
        schedule = LRSchedulerCallback(*SCHEDULES[name], every="iteration")
        trainer = make_run("rollback", "loss", when=when, more=[schedule, keeper], guard={"every": 3})
        trainer.train(3, batches(3, 3, 3, 3))
        rates.append([keeper.rates[n] for n in range(12)])
    straight, guarded = rates
    assert guarded[:5] == straight[:5]
    assert guarded[5:] == pytest.approx([rate / 2 for rate in straight[5:]])


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_run_that_is_resumed_anywhere_goes_back_to_where_the_straight_one_does(
    make_run, batches, tmp_path, assert_same, stop
):
    def run(*more, state=None, name="first"):
        more = [WeightAverage(0.8), *more]
        trainer = make_run("rollback", "loss", [4, 7], [3], pool=True, more=more, guard={"every": 5})
        if state:
            trainer.update_state(state)
        trainer.train(4, batches(4, 4, 4), batches(3))
        trainer.save_state(tmp_path / f"{name}.pt")
        return trainer

    def end(trainer, train, global_iter_num):
        return {"stop_now": True} if train and global_iter_num == stop - 1 else None

    straight = run(name="straight")
    assert run(LambdaCallback(at_iter_end=end)).global_iter_num == stop
    run(state=tmp_path / "first.pt", name="resumed")
    assert_same(*(load_checkpoint(tmp_path / f"{name}.pt") for name in ("straight", "resumed")))
    assert _guard(straight)[1] == 3


def test_a_snapshot_that_would_be_replaced_at_once_is_not_saved(make_run, batches):
    for every, is_saved in ((3, False), (2, True)):
        trainer = make_run("rollback", guard={"every": every})
        trainer.train(1, batches(3, 3, 3))
        assert (trainer.state_dict()["callbacks"]["NaNGuard"]["snapshot"] is not None) == is_saved


def test_a_validation_that_is_not_finite_takes_the_run_back_before_it_is_saved(
    make_run, batches, assert_same, tmp_path
):
    keeper = Keeper()
    more = [WeightAverage(0.8), keeper]
    trainer = make_run("rollback", epochs=[2], pool=True, more=more, save_path=tmp_path, guard={"every": 2})
    best = trainer.train(3, batches(4, 4, 4), batches(3, 3), val_score_key="mse", val_score_mode="lowest")
    saved = load_checkpoint(tmp_path / "checkpoint_epoch_2.safetensors")
    assert_same(saved["network"], keeper.states[4]["network"])
    assert_same(saved["callbacks"]["WeightAverage"], keeper.states[4]["callbacks"]["WeightAverage"])
    assert saved["optimizers"]["default"]["param_groups"][0]["lr"] == pytest.approx(5e-3)
    assert _guard(trainer) == (1, 1)
    assert trainer.best.epoch in (1, 3)
    assert all(torch.isfinite(value).all() for value in best.state_dict().values())
    trainer = _drifting(make_run("rollback"), NAN)  # a value of the epoch itself
    trainer.train(3, batches(3, 3))
    assert _guard(trainer) == (1, 1)


def test_weights_that_are_not_finite_are_no_snapshot(make_run, batches, assert_same):
    @torch.no_grad()
    def spoil(trainer, global_iter_num=3):
        if global_iter_num == 3:
            trainer.network.rule.last.weight[0] = INF

    trainer = make_run("rollback", more=[LambdaCallback(at_iter_end=spoil)], guard={"every": 2})
    trainer.train(2, batches(3, 3))
    assert _guard(trainer)[1] == 1
    assert all(torch.isfinite(value).all() for value in trainer.network.state_dict().values())
    spoil(trainer)
    fresh = make_run("rollback", network=trainer.network)
    with pytest.raises(NonFiniteError, match=r"rule\.last\.weight is not finite before iteration 0 .* no snapshot"):
        fresh.train(1, batches(3))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_metric_that_is_not_minimised_is_told_once_an_epoch_and_changes_nothing(
    make_run, batches, assert_same, caplog, logged, policy
):
    data = batches(3, 3, 3), batches(3, 3)
    spoilt = make_run(policy, "score", when=[0, 1, 4], epochs=[1, 2])
    with caplog.at_level(logging.WARNING, "delira_nca"):
        spoilt.train(2, *data)
    assert [record.message.partition(";")[0] for record in logged()] == [
        "score is nan in iteration 0 of epoch 1",
        "score is nan in iteration 0 of epoch 1",
        "score is nan in iteration 1 of epoch 2",
        "score is nan in iteration 0 of epoch 2",
    ]
    healthy = make_run(policy)
    healthy.train(2, *data)
    assert_same(dict(spoilt.network.state_dict()), dict(healthy.network.state_dict()))
    assert _guard(spoilt)[0] == 0


@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("mode", ["lowest", "highest"])
@pytest.mark.parametrize("place", ["score", "loss"])
@pytest.mark.parametrize("bad", [[1], [2], [1, 3]])
def test_the_best_epoch_is_never_one_that_is_nan(make_run, batches, policy, mode, place, bad):
    trainer = make_run(policy, place, epochs=bad)
    key = "score" if place == "score" else "mse"
    trainer.train(4, batches(3, 3), batches(3), val_score_key=key, val_score_mode=mode)
    finite = {record["epoch"]: record[f"val_{key}"] for record in trainer.history if record["epoch"] not in bad}
    assert len(finite) == 4 - len(bad)
    pick = min if mode == "lowest" else max
    assert trainer.best.epoch == pick(finite, key=finite.get)
    assert trainer.best.score == finite[trainer.best.epoch]


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_counts_are_part_of_its_state(make_run, batches, policy):
    trainer = make_run(policy, "loss", when=[1])
    trainer.train(1, batches(3, 3, 3))
    again = NaNGuard(policy)
    again.load_state_dict(trainer.state_dict()["callbacks"]["NaNGuard"])
    assert repr(again) == repr(_of(trainer, NaNGuard))
    assert again.num_events == 1
    assert NaNGuard().state_dict() == {}
    NaNGuard().load_state_dict(again.state_dict())


def test_early_stopping_keeps_what_it_has_seen(make_run, batches):
    stopping = EarlyStopping("mse", patience=9, check_finite=False)
    trainer = make_run("rollback", "loss", epochs=[3], more=[stopping], guard={"every": 50})
    trainer.train(3, batches(3, 3), batches(3))
    assert _guard(trainer)[1] == 1
    assert stopping.best == min(record["val_mse"] for record in trainer.history[:2])


@pytest.fixture
def trainer(make_trainer, tmp_path):
    """Trainer with one callback of every kind, that has trained for an epoch when asked."""
    callbacks = [
        NaNGuard("rollback", every=2),
        PoolUpdate(SamplePool(make_seed(8, (6, 6)), 6)),
        WeightAverage(0.8),
        WeightAverage(None),
        EarlyStopping("loss", patience=9),
        LRSchedulerCallback(torch.optim.lr_scheduler.ExponentialLR, {"gamma": 0.5}),
        Checkpoint(tmp_path),
        TimeLimit("1h", clock=lambda: 0.0),
        Counter(),
        Counter(rolls_back=False),
    ]
    return make_trainer(callbacks=callbacks)


def test_what_was_learned_comes_back_and_what_has_happened_stays(trainer, batches, assert_same):
    trainer.train(1, batches(4, 4))
    snapshot = take_snapshot(trainer)
    kept = trainer.state_dict()
    learned, first = {k: v.clone() for k, v in kept["network"].items()}, take_snapshot(trainer)
    assert sorted(snapshot["callbacks"]) == ["Counter", "PoolUpdate", "WeightAverage", "WeightAverage#2"]
    trainer.train(2, batches(4, 4))
    happened = trainer.state_dict()
    assert not torch.equal(happened["network"]["rule.last.weight"], learned["rule.last.weight"])
    restore_snapshot(trainer, snapshot)
    assert_same(snapshot, first)  # training after it has not changed it
    after = trainer.state_dict()
    assert_same(after["network"], learned)
    assert_same(after["optimizers"]["default"]["state"], first["optimizers"]["default"])
    for key in ("WeightAverage", "WeightAverage#2", "Counter"):
        assert_same(after["callbacks"][key], first["callbacks"][key])
    for key in ("states", "losses", "slots"):
        assert_same(after["callbacks"]["PoolUpdate"][key], first["callbacks"]["PoolUpdate"][key])
    for key in ("num_draws", "num_dead", "num_exploded"):
        assert after["callbacks"]["PoolUpdate"][key] == happened["callbacks"]["PoolUpdate"][key]
    for key in ("EarlyStopping", "LRSchedulerCallback", "Checkpoint", "TimeLimit", "Counter#2"):
        assert_same(after["callbacks"][key], happened["callbacks"][key])
    for key in ("history", "epoch", "global_iter_num", "best"):
        assert_same(after[key], happened[key])
    assert _rate(trainer) == pytest.approx(2.5e-3)
    trainer.train(3, batches(4, 4))
    assert_same(snapshot, first)


def test_a_snapshot_from_before_the_first_step_empties_the_moments(trainer, batches):
    snapshot = take_snapshot(trainer)
    trainer.train(1, batches(4, 4))
    assert trainer.optimizers["default"].state_dict()["state"]
    restore_snapshot(trainer, snapshot)
    assert trainer.optimizers["default"].state_dict()["state"] == {}
    assert _of(trainer, Counter).count == 2  # it had no state then, and keeps its own


def test_learning_rates_of_every_group_are_scaled(make_trainer):
    def groups(network, cls, **params):
        parts = [network.rule.hidden.parameters(), network.rule.last.parameters()]
        return cls([{"params": part, "lr": lr} for part, lr in zip(parts, (1e-2, 1e-3), strict=True)])

    trainer = make_trainer(optim_fn=groups)
    scale_learning_rates(trainer, 0.1)
    assert [group["lr"] for group in trainer.optimizers["default"].param_groups] == pytest.approx([1e-3, 1e-4])
