import base64
import json

import numpy as np
import pytest
import torch
from torch import nn

from delira_nca.errors import ExportError, UnknownNameError
from delira_nca.export import to_html
from delira_nca.export.cell import WEIGHTS, describe_cell, pack
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, build_model, presets
from delira_nca.models.perception import FullFilters, LearnedFilters


def growing(**changes):
    return BasicNCAModel(**presets.growing(**{"rule": MLPRule(8), **changes}))


def unpacked(packed):
    values = np.frombuffer(base64.b64decode(packed["data"]), WEIGHTS[packed["type"]])
    return torch.from_numpy(values.astype("f4")).view(packed["shape"])


def test_description_is_plain_and_complete(any_cell, make_cell):
    model, _ = make_cell(any_cell)
    with torch.no_grad():
        described, plain = describe_cell(model), model.to_arrays()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    for name, value in {
        "channels": model.num_channels,
        "fixed": model.num_fixed_channels,
        "padding": plain.padding,
        "nonlinearity": plain.nonlinearity,
        "timeScale": plain.time_scale,
        "fireRate": model.fire_rate,
        "updateNoise": model.update_noise,
        "fullRelu": plain.full_relu,
    }.items():
        assert described[name] == value, name
    layers = zip(described["layers"], plain.weights, plain.biases, strict=True)
    for packed, tensor in (
        (described["filters"], plain.filters),
        (described["filterBias"], plain.filter_bias),
        (described["full"], plain.full),
        (described["fullBias"], plain.full_bias),
        *(pair for layer, *parts in layers for pair in zip((layer["weight"], layer["bias"]), parts, strict=True)),
    ):
        assert (packed is None) == (tensor is None)
        assert tensor is None or torch.equal(unpacked(packed), tensor)
    if model.alive is None:
        assert described["alive"] is None
    else:
        assert {**described["alive"], "num_spared": 0} == vars(model.alive)


@pytest.mark.parametrize(
    ("filters", "pairs"),
    [
        (("identity", "sobel"), [[1, 2]]),
        (("sobel", "laplacian", LearnedFilters(3), "sobel"), [[0, 1], [6, 7]]),
        (("identity", FullFilters(1, 5), "laplacian"), []),
        ((FullFilters(2, 5), "sobel"), [[0, 1]]),
    ],
)
def test_gradients_are_the_filters_that_turn(filters, pairs):
    model = growing(perception=Perception(*filters))
    assert describe_cell(model)["gradients"] == pairs
    for along_x, along_y in pairs:
        kernels = model.to_arrays().filters[[along_x, along_y], 0].detach()
        assert torch.equal(kernels[0], kernels[1].T)


def test_float16_rounds_the_weights_and_leaves_the_filters_exact(randomise):
    model = randomise(growing(perception=Perception("identity", LearnedFilters(1, bias=True), FullFilters(1, 3))))
    described, plain = describe_cell(model, "float16"), model.to_arrays()
    assert torch.equal(unpacked(described["layers"][0]["weight"]), plain.weights[0].half().float())
    assert described["full"]["type"] == described["filterBias"]["type"] == "float16"
    assert torch.equal(unpacked(described["filters"]), plain.filters)
    packed = pack(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    assert packed["shape"] == [1, 2]
    assert base64.b64decode(packed["data"]).hex() == "0000803f000000c0", "little endian"


def test_gradients_are_not_needed_the_model_stays_as_it_was_and_half_precision_is_kept(randomise):
    model = randomise(growing())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    describe_cell(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    halved = describe_cell(model.to(torch.bfloat16))
    assert halved == describe_cell(model.float())


class OwnRule(nn.Module):
    def forward(self, x):
        return x[:, :16]


class OwnPerception(nn.Identity):
    out_channels = radius = 16


class OwnMask(AliveMask):
    pass


class Preparing(BasicNCAModel):
    def prepare_input(self, x):
        return x / 2


class Perceiving(BasicNCAModel):
    def perceive(self, x, t):
        return super().perceive(x, t) * 2


def hooked():
    model = growing()
    model.rule.last.register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: growing(head=nn.Linear(12, 2)), "no engine for a head, and this BasicNCAModel has a Linear"),
        (lambda: growing(rule=OwnRule()), "cannot live on a page: .*OwnRule"),
        (lambda: growing(perception=OwnPerception()), "cannot live on a page: .*OwnPerception"),
        (lambda: growing(alive=OwnMask()), "the alive mask is a OwnMask, not an AliveMask"),
        (lambda: Preparing(**presets.growing()), "Preparing prepares its input in a way of its own"),
        (lambda: Perceiving(**presets.growing()), "Perceiving perceives in a way of its own"),
        (hooked, "cannot live on a page: .*hook"),
        (lambda: nn.Linear(2, 2), "a live page shows a BasicNCAModel, not a Linear"),
    ],
)
def test_what_no_engine_computes_is_refused_and_named(make, message):
    with pytest.raises(ExportError, match=message):
        describe_cell(make())


def test_every_preset_has_a_page_or_is_refused_by_name(tmp_path):
    refused = {
        "attention": "cannot live on a page: the rule is a AttentionRule",
        "conditional": "cannot live on a page: its cells have a goal",
        "m3d_nca": "a live page shows a BasicNCAModel, not a PyramidNCA",
        "med_nca": "a live page shows a BasicNCAModel, not a PyramidNCA",
        "mixture": "cannot live on a page: the rule is a MixtureRule",
        "octree_nca": "a live page shows a BasicNCAModel, not a PyramidNCA",
        "self_classifying": "those of this BasicNCAModel do where the input says so",
        "steerable": "cannot live on a page: the perception is a SteerablePerception",
    }
    for name in presets.__all__:
        model = build_model(name)
        if name in refused:
            with pytest.raises(ExportError, match=refused[name]):
                to_html(model, tmp_path / "live.html")
        else:
            assert to_html(model, tmp_path / "live.html").stat().st_size > 10_000, name


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_weights_that_are_not_finite_are_refused_and_named(value):
    model = growing()
    with torch.no_grad():
        model.rule.last.weight[2, 3] = value
    with pytest.raises(ExportError, match=r"rule\.last\.weight holds NaN or infinity as float16"):
        describe_cell(model, "float16")
    if value == 1e5:
        assert describe_cell(model)["channels"] == 16
    else:
        with pytest.raises(ExportError, match=r"rule\.last\.weight holds NaN or infinity as float32"):
            describe_cell(model)
    with pytest.raises(UnknownNameError, match="Did you mean 'float16'"):
        describe_cell(model, "float61")
