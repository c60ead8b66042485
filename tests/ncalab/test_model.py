"""The same arguments define the same automaton as in NCALab."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from delira_nca.errors import CheckpointError, ConfigError, UnknownKeywordError, UnknownNameError
from delira_nca.io.network import load_network, save_network
from delira_nca.models import BasicNCAModel as OurModel
from delira_nca.models.rule import MLPRule
from delira_nca.ncalab import (
    AbstractNCAModel,
    AbstractNCARule,
    AutoStepper,
    BasicNCAModel,
    BasicNCATrainer,
    BinarySegmentationNCAModel,
    CascadeNCA,
    ClassificationNCAModel,
    GrowingNCAModel,
    MLPNCARule,
    fix_random_seed,
)
from delira_nca.rollout import UnsupportedCellError
from delira_nca.rollout.backends import using_backend


class Model(AbstractNCAModel):
    """Sum of squares as the loss."""

    def loss(self, pred, label):
        return {"total": F.mse_loss(pred.output_image, label)}


CASES = {
    "sobel": {},
    "sobel, circular": {"filter_padding": "circular"},
    "laplace": {"use_laplace": True},
    "learned": {"num_learned_filters": 2},
    "learned, 5 x 5, circular": {"num_learned_filters": 3, "kernel_size": 5, "filter_padding": "circular"},
    "learned, zero": {"num_learned_filters": 1, "filter_padding": "zero", "use_laplace": True},
    "learned, replicate": {"num_learned_filters": 1, "filter_padding": "replicate"},
    "alive": {"use_alive_mask": True, "immutable_image_channels": False},
    "alive, immutable": {"use_alive_mask": True},
    "mutable": {"immutable_image_channels": False},
    "time": {"use_temporal_encoding": True, "training_timesteps": (8, 16)},
    "fire": {"fire_rate": 0.5},
    "everything": {
        "fire_rate": 0.7,
        "use_temporal_encoding": True,
        "num_learned_filters": 2,
        "use_alive_mask": True,
        "filter_padding": "circular",
        "training_timesteps": 12,
    },
    "gelu": {"rule_args": {"nonlinearity": nn.GELU}},
    "elu": {"rule_args": {"nonlinearity": "ELU"}},
}


def automaton(options, cls=Model):
    model = cls("cpu", 2, 5, 2, hidden_size=12, **{"fire_rate": 1.0, **options})
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return model


def inputs(steps):
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(2, 9, 8, 7, generator=generator)
    x[:, 3] *= torch.rand(2, 8, 7, generator=generator) > 0.8
    return x, torch.rand(steps, 2, 1, 8, 7, generator=generator) < 0.6, torch.rand(2, 9, 8, 7, generator=generator)


def restated(step, model, options, x, fires):
    """States of the plain restatement, with gradients to the weights of the model."""
    weights = dict(model.named_parameters())
    activation = {"GELU": F.gelu, "ELU": F.elu}.get(type(model.rule.network[1]).__name__, torch.relu)
    steps = options.get("training_timesteps", 100)
    horizon = {"horizon": steps if isinstance(steps, int) else steps[1]} if "use_temporal_encoding" in options else {}
    image, laplace = 2 if model.immutable_image_channels else 0, options.get("use_laplace", False)
    fixed = {"image": image, "alive": model.use_alive_mask, "laplace": laplace, **horizon}
    for t, fire in enumerate(fires):
        fire = fire if model.fire_rate < 1 else None
        x = step(x, t, weights, activation, fire=fire, padding=options.get("filter_padding", "reflect"), **fixed)
    return x


@pytest.mark.processor
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("case", CASES)
def test_states_losses_and_gradients_are_those_of_nca_lab(case, backend, nca_lab_step):
    options, (x, fires, target) = CASES[case], inputs(6)
    ours, plain = automaton(options), automaton(options)
    with using_backend(backend):
        prediction = ours(x, 6, masks=fires if ours.fire_rate < 1 else None)
    state, expected = prediction.output_image, restated(nca_lab_step, plain, options, x, fires)
    losses = ours.loss(prediction, target)["total"], F.mse_loss(expected, target)
    for loss in losses:
        loss.backward()
    assert 0.1 < expected.abs().max() < 50
    compared = {"state": (state, expected), "loss": losses}
    compared |= {name: (ours.get_parameter(name).grad, p.grad) for name, p in plain.named_parameters()}
    for name, pair in compared.items():
        torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_defaults_are_those_of_nca_lab():
    abstract, basic = Model("cpu", 3, 4, 1), BasicNCAModel("cpu", 3, 4, 1)
    assert (abstract.num_learned_filters, basic.num_learned_filters) == (0, 2)
    for model in (abstract, basic):
        assert (model.fire_rate, model.hidden_size, model.filter_padding, model.kernel_size) == (0.5, 128, "reflect", 3)
        assert (model.training_timesteps, model.inference_timesteps, model.pad_noise) == (100, 100, False)
        assert model.alive is None
    assert list(abstract.state_dict()) == ["rule.network.0.weight", "rule.network.0.bias", "rule.network.2.weight"]
    assert "perception.filters.1.weight" in basic.state_dict()


def test_a_seed_of_the_global_generators_gives_equal_first_weights():
    models = []
    for _ in range(2):
        fix_random_seed(5)
        models.append(BasicNCAModel("cpu", 3, 4, 1).state_dict())
    fix_random_seed(5)
    filters = [nn.Conv2d(8, 8, 3, groups=8, bias=False, padding=1, padding_mode="reflect") for _ in range(2)]
    first = nn.Conv2d(24, 128, 1)
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    assert torch.equal(models[0]["perception.filters.1.weight"], filters[1].weight)
    assert torch.equal(models[0]["rule.network.0.weight"], first.weight)


def test_a_cell_without_living_neighbours_stays_zero_even_with_an_image():
    model = automaton({"use_alive_mask": True})
    x, *_ = inputs(1)
    x[:, 3] = 0.0
    with torch.no_grad():
        model.rule.network[2].weight.zero_()
    assert model(x, 1).output_image.abs().max() == 0


class Doubling(AbstractNCARule):
    """Half of the state is the update of every channel."""

    def __init__(self, device, input_size, hidden_size, output_size, factor=0.5):
        super().__init__(device, input_size, hidden_size, output_size)
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x[:, : self.output_size]

    def freeze(self, freeze_last=False):
        self.requires_grad_(False)


def test_a_rule_of_the_user_updates_the_channels_that_may_change():
    model = Model("cpu", 2, 5, 2, fire_rate=1.0, rule_type=Doubling, rule_args={"factor": 1.0})
    x, _, _ = inputs(1)
    state = model(x, 2).output_image
    assert torch.equal(state[:, :2], x[:, :2])
    torch.testing.assert_close(state[:, 2:], 4 * x[:, 2:])
    ours = BasicNCAModel("cpu", 2, 5, 2, rule_type=MLPRule)
    assert isinstance(ours.rule, MLPRule)
    assert ours(x, 2).output_image.shape == x.shape


class Own(Model):
    def _update(self, x, step):
        return super()._update(x, step) * 0 + step

    def _post_forward_step(self, x):
        return x + 100

    def prepare_input(self, x):
        return x * 0


def test_steps_that_a_subclass_overrides_are_computed():
    model = Own("cpu", 2, 5, 2, fire_rate=0.5)
    x, _, _ = inputs(1)
    assert float(model(x, 4).output_image[0, 5, 0, 0].detach()) == pytest.approx(float(x[0, 5, 0, 0]) + 6 + 100)
    assert model.predict(x, 3).output_image.unique().tolist() == [103.0]
    assert [frame.output_image.unique().tolist() for frame in model.record(x, 2)] == [[100.0], [101.0]]
    assert AutoStepper(3, 4, 9)(model, x).output_image.unique().tolist() == [106.0]
    assert CascadeNCA(model, [2, 1], [2, 2]).predict(torch.rand(1, 2, 8, 8)).output_channels.unique().tolist() == [
        106.0
    ]
    with pytest.raises(ConfigError, match="draws its own fire masks"):
        model(x, 1, masks=lambda t: None)
    with pytest.raises(UnsupportedCellError, match="overrides a step"):
        model.to_arrays()


class Pasted(Model):
    """NCALab's way to compute the update, with all channels and random numbers of torch."""

    def _update(self, x, step):
        dx = self.rule(self.perception.perceive(x, step))
        if self.fire_rate < 1.0:
            dx = dx * (torch.rand([x.size(0), 1, x.size(2), x.size(3)], device=self.device) < self.fire_rate).float()
        if self.immutable_image_channels:
            dx[:, : self.num_image_channels] *= 0
        return dx

    def _forward_step(self, x, step):
        x = x + self._update(x, step)
        if self.use_alive_mask:
            x = x * self._alive(x).float()
        return x


@pytest.mark.parametrize("case", ["sobel", "learned", "alive", "alive, immutable", "time", "mutable"])
def test_an_update_that_is_written_as_in_nca_lab_gives_the_same(case):
    options, (x, _, target) = CASES[case], inputs(1)
    found = []
    for cls in (Model, Pasted):
        model = automaton(options, cls)
        prediction = model(x, 5)
        model.loss(prediction, target)["total"].backward()
        found.append([prediction.output_image.detach(), *(p.grad for p in model.parameters())])
    for ours, pasted in zip(*found, strict=True):
        torch.testing.assert_close(ours, pasted, rtol=1e-4, atol=1e-5)


def test_random_numbers_of_an_overridden_step_depend_on_the_seed_and_survive_a_small_memory_budget():
    x, _, target = inputs(1)
    gradients = []
    for budget in (2**30, 1):
        model = automaton({"fire_rate": 0.5, "memory_budget": budget}, Pasted)
        assert torch.equal(model.predict(x, 6, seed=3).output_image, model.predict(x, 6, seed=3).output_image)
        assert not torch.equal(model.predict(x, 6, seed=3).output_image, model.predict(x, 6, seed=4).output_image)
        model.loss(model(x, 6, seed=3), target)["total"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


class OwnForward(Model):
    def forward(self, x, steps=1):
        for step in range(steps):
            x = self._forward_step(x, step)
        prediction = self._prediction(steps, x)
        prediction.logits = prediction.logits + 10
        return prediction


class OwnHead(Model):
    def _predict_head(self, x):
        return x.mean((2, 3))


def test_a_forward_pass_and_a_head_that_a_subclass_overrides_are_used():
    model, x = OwnForward("cpu", 2, 5, 2, hidden_size=4, inference_timesteps=3, training_timesteps=3), inputs(1)[0]
    assert model.predict(x[:, :2]).logits.unique().tolist() == [10.0]
    assert [(one.steps, one.logits.min().item()) for one in model.record(x[:, :2], 2)] == [(1, 10.0), (2, 10.0)]
    pairs = [(x[:, :2], torch.zeros(2, 9, 8, 7))]
    assert BasicNCATrainer(model, None, max_epochs=1).train(pairs).current_epoch == 1
    with pytest.raises(ConfigError, match="keeps 'all' steps or the 'last'"):
        model.record(x, 2, keep=[1])
    prediction = OwnHead("cpu", 2, 5, 2).predict(torch.rand(2, 2, 6, 6), 1)
    torch.testing.assert_close(prediction.logits, prediction.output_image.mean((2, 3)))


def test_a_rule_of_the_package_works_with_every_mask():
    for options in ({}, {"use_alive_mask": True}, {"immutable_image_channels": False}):
        model = Model("cpu", 2, 5, 2, fire_rate=1.0, rule_type=MLPRule, **options)
        nn.init.normal_(model.rule.last.weight)
        x = inputs(1)[0]
        state = model(x, 1).output_image
        assert torch.equal(state[:, :2], x[:, :2] * model._alive(state)) is (
            options.get("immutable_image_channels", True)
        )
        described = model.to_dict()
        assert described["rule_type"] == "delira_nca.models.rule.MLPRule"
        assert isinstance(Model.from_dict(described).rule, MLPRule)


def test_layers_that_were_replaced_are_computed_by_the_reference():
    x = inputs(1)[0]
    for change in (
        lambda network: network.__setitem__(1, nn.LeakyReLU(0.5)),
        lambda network: network.__setitem__(1, nn.GELU(approximate="tanh")),
        lambda network: network.__setitem__(2, nn.Conv2d(12, 9, 1)),
        lambda network: network.__setitem__(0, nn.Conv2d(27, 12, 3, padding=1)),
        lambda network: network.append(nn.Conv2d(9, 9, 1)),
    ):
        model = automaton({})
        change(model.rule.network)
        with using_backend("reference"):
            expected = model.predict(x, 3).output_image
        assert torch.equal(model.predict(x, 3).output_image, expected)
        with pytest.raises(UnsupportedCellError):
            model.to_arrays()


def test_the_native_roll_out_and_others_know_which_parts_they_support():
    model = automaton({})
    arrays = model.to_arrays()
    assert (arrays.num_fixed_channels, arrays.padding, arrays.weights[-1].shape) == (2, "zeros", (7, 12))
    assert automaton({"use_alive_mask": True}).to_arrays().weights[-1][:2].abs().max() == 0
    model.rule.network[0].register_forward_hook(lambda *_: None)
    with pytest.raises(UnsupportedCellError, match="a hook listens to the rule's network.0"):
        model.to_arrays()
    with pytest.raises(UnsupportedCellError, match="the rule is a Doubling"):
        Model("cpu", 2, 5, 2, rule_type=Doubling).to_arrays()


def test_predictions_have_nca_labs_attributes():
    prediction = automaton({}).predict(torch.rand(3, 2, 6, 6), 2)
    assert torch.equal(prediction.logits, prediction.output_channels)
    assert prediction.logits_np.shape == (3, 2, 6, 6)
    assert prediction.mask is prediction.mask_np is None
    ones = prediction.unwrap_batch()
    assert [one.output_image.shape[0] for one in ones] == [1, 1, 1]
    assert torch.equal(ones[2].logits, prediction.logits[2:])
    growing = GrowingNCAModel("cpu", num_hidden_channels=3).predict(torch.rand(1, 4, 6, 6), 1)
    assert growing.logits.shape == (1, 7, 6, 6)
    assert torch.equal(growing.pred, growing.image_channels)


def test_models_are_described_and_made_again_also_through_files(tmp_path):
    model = GrowingNCAModel("cpu", 6, use_alive_mask=True, lambda_hidden=0.1, training_timesteps=(3, 5))
    described = model.to_dict()
    assert described["lambda_hidden"] == 0.1
    again = GrowingNCAModel.from_dict(described)
    assert (again.training_timesteps, again.use_alive_mask, again.lambda_hidden) == ((3, 5), True, 0.1)
    nn.init.normal_(model.rule.network[2].weight)
    save_network(model, tmp_path / "model.safetensors")
    loaded = load_network(tmp_path / "model.safetensors")
    seed = model.make_seed(8, 8)
    assert torch.equal(loaded.predict(seed, 5).output_image, model.predict(seed, 5).output_image)
    cascade = CascadeNCA(BasicNCAModel("cpu", 3, 4, 1, rule_args={"nonlinearity": nn.Tanh}), [2, 1], [2, 2])
    save_network(cascade, tmp_path / "cascade.safetensors")
    loaded = load_network(tmp_path / "cascade.safetensors")
    assert type(loaded) is CascadeNCA
    assert isinstance(loaded.wrapped.rule.network[1], nn.Tanh)
    named = BasicNCAModel("cpu", 3, 4, 1, rule_type="BasicNCARule").to_dict()
    assert "rule_type" not in named
    chosen = ClassificationNCAModel("cpu", 3, 4, 2, validation_metric="accuracy_macro", training_timesteps=5)
    save_network(chosen, tmp_path / "chosen.safetensors")
    assert load_network(tmp_path / "chosen.safetensors").validation_metric == "accuracy_macro"
    with pytest.raises(ConfigError, match="a description of ClassificationNCAModel has no num_classes"):
        ClassificationNCAModel.from_dict({"num_image_channels": 3, "num_hidden_channels": 4})
    with pytest.raises(ConfigError, match=r"is not a rule of the package: pass the class, rule_type="):
        Model.from_dict(Model("cpu", 2, 5, 2, rule_type=Doubling).to_dict())


def test_weights_are_saved_as_safetensors_and_those_of_compiled_models_load_into_plain_ones_and_back(tmp_path):
    model, other = automaton({}), Model("cpu", 2, 5, 2, hidden_size=12)
    model.save(tmp_path / "weights.safetensors")
    assert Model.load(other, tmp_path / "weights.safetensors") is other
    assert torch.equal(other.rule.network[2].weight, model.rule.network[2].weight)
    with pytest.raises(CheckpointError, match="does not fit a Model"):
        Model.load(Model("cpu", 2, 5, 2, hidden_size=13), tmp_path / "weights.safetensors")

    compiled, other = torch.compile(model, backend="eager"), Model("cpu", 2, 5, 2, hidden_size=12)
    other.load_state_dict(compiled.state_dict())
    assert torch.equal(other.rule.network[0].weight, model.rule.network[0].weight)
    with torch.no_grad():
        other.rule.network[0].weight.zero_()
    compiled.load_state_dict({f"_orig_mod.{name}": tensor for name, tensor in other.state_dict().items()})
    assert model.rule.network[0].weight.abs().max() == 0


def test_unsuitable_arguments_are_refused_by_name():
    for cls, channels, options, error, message in (
        (Model, (3, 4, 1), {"firerate": 0.5}, UnknownKeywordError, "Did you mean 'fire_rate'"),
        (Model, (3, 4, 1), {"num_learned_filters": 1, "filter_padding": "x"}, UnknownNameError, "filter_padding"),
        (Model, (1, 1, 1), {"use_alive_mask": True}, ConfigError, "alive channel 3 is none of the 3 channels"),
        (Model, (3, 4, 1), {"rule_args": {"nonlinearity": "ReLLU"}}, ConfigError, "nonlinearity is a class of"),
        (AbstractNCAModel, (3, 4, 1), {}, TypeError, "abstract"),
    ):
        with pytest.raises(error, match=message):
            cls("cpu", *channels, **options)
    assert not issubclass(MLPNCARule, OurModel)


def test_finetuning_trains_the_last_layer_of_the_rule_and_the_device_can_be_set():
    model = automaton({"num_learned_filters": 2})
    model.finetune()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {"rule.network.2.weight"}
    model.device = torch.device("cpu")
    assert model.device == torch.device("cpu")


def test_validation_uses_methods_that_a_subclass_overrides():
    class OwnValidation(BinarySegmentationNCAModel):
        def validate(self, dataloader, steps=None):
            return {"dice": 0.75 + 0.01 * len(list(dataloader))}, []

    class OwnPrediction(BinarySegmentationNCAModel):
        def predict(self, image, steps=None):
            prediction = super().predict(image, steps)
            prediction.logits = torch.ones_like(prediction.logits)
            return prediction

    pairs = [(torch.rand(2, 3, 8, 8), torch.ones(2, 8, 8))] * 2
    for cls, expected in ((OwnValidation, 0.77), (OwnPrediction, 1.0)):
        model = cls("cpu", 3, 4, hidden_size=4, training_timesteps=2, inference_timesteps=2)
        history = BasicNCATrainer(model, None, max_epochs=1).train(pairs, pairs)
        assert history.best_accuracy == pytest.approx(expected)
