"""Every preset and every option of a cell: out of its file it rolls out alike; the native back end and the live page
compute it, or refuse it by the name of what they do not know."""

import inspect

import pytest
import torch
from torch.testing import assert_close

from delira_nca.errors import ConfigError, ExportError
from delira_nca.export.cell import describe_cell
from delira_nca.io.network import load_network, save_network
from delira_nca.models import (
    AliveMask,
    AttentionRule,
    BasicNCAModel,
    BasicNCARule,
    CascadeNCA,
    FullFilters,
    GoalEmbedding,
    GraphPerception,
    GroupedPerception,
    ImplicitDecoder,
    InputMask,
    IsotropicPerception,
    LearnedFilters,
    LinearRule,
    MixtureRule,
    MLPRule,
    NormedRule,
    Perception,
    PyramidNCA,
    SteerablePerception,
    TaskNCAModel,
    build_model,
    pad_input,
    presets,
    tasks,
)
from delira_nca.models.build import CLASSES
from delira_nca.models.description import _PARTS
from delira_nca.models.perception import FRAMES, PADDINGS
from delira_nca.models.rule import _NONLINEARITIES, CHOICES
from delira_nca.rollout import BACKENDS, using_backend

pytestmark = pytest.mark.processor

FIXED = {"immutable_image_channels": True, "alive": None}
LOOKS = {**FIXED, "num_image_channels": 1, "num_hidden_channels": 6, "num_output_channels": 2}
UNTOUCHED = {"device", "plot_function", "validation_metric", "memory_budget", "kwargs"}
"""Arguments that change no roll-out."""

GROWING = {
    "every cell fires": {"fire_rate": 1.0},
    "no alive mask": {"alive": None},
    "alive before": {"alive": AliveMask(after=False)},
    "alive after, above nothing": {"alive": AliveMask(5, -0.1, before=False)},
    "a channel spared by the alive mask": {"alive": AliveMask(num_spared=1)},
    "fixed image": FIXED,
    "input mask": {**LOOKS, "input_mask": InputMask(0, 0.1)},
    "output channels": LOOKS,
    "time": {"use_temporal_encoding": True},
    "noise of updates": {"update_noise": 0.02},
    "noise to begin with": {**LOOKS, "pad_noise": True},
    "steps of a range": {"training_timesteps": (2, 5), "inference_timesteps": (3, 6)},
    "1 dimension": {"dims": 1},
    "3 dimensions": {"dims": 3},
    "larger filters": {"perception": Perception("identity", LearnedFilters(2, 5, bias=True), padding="reflect")},
    "full filters": {"perception": Perception("identity", FullFilters(2))},
    "full filters, rectified": {"perception": Perception("sobel", FullFilters(1, 6, relu=True))},
    "scaled filters": {"perception": Perception("sobel", "laplacian", laplacian_scale=0.1, sobel_scale=8.0)},
    "turned filters": {"perception": Perception("identity", "sobel", angle=0.4)},
    "no bias": {"rule": MLPRule(9, final_bias=False)},
    "two hidden layers": {"rule": MLPRule((9, 7))},
    "rows that nobody uses": {**LOOKS, "rule": MLPRule(9, spare_rows=1)},
    "linear rule": {"rule": LinearRule()},
    "normed rule": {"rule": NormedRule(8)},
    "rule normed in groups": {"rule": NormedRule(8, norm="group", num_groups=2)},
    "attention rule": {"rule": AttentionRule(8, num_heads=2, hidden_size=9)},
    "grouped perception": {"perception": GroupedPerception()},
    "grouped perception before a linear rule": {"perception": GroupedPerception(), "rule": LinearRule()},
    "isotropic perception": {"perception": IsotropicPerception()},
    "goals": {"conditioning": GoalEmbedding(3)},
    "goals through some channels": {"conditioning": GoalEmbedding(3, 5)},
    "decoder": {"head": ImplicitDecoder(12, 3, 2, 8)},
    **{f"{padding} around": {"perception": Perception("sobel", padding=padding)} for padding in PADDINGS},
    **{f"rule with {kind}": {"rule": MLPRule(9, nonlinearity=kind)} for kind in _NONLINEARITIES},
    **{f"mixture, {choice}": {"rule": MixtureRule(2, MLPRule(8), choice=choice)} for choice in CHOICES},
    **{f"steered by {frame}": {"perception": SteerablePerception(frame)} for frame in FRAMES},
}
"""What the cell of the growing preset is made with otherwise."""

ARGUMENTS = {
    "learned filters by arguments": {"num_learned_filters": 3, "kernel_size": 5, "filter_padding": "circular"},
    "fixed filters by arguments": {"num_learned_filters": 0, "use_laplace": True, "use_alive_mask": True},
    "rule by arguments": {
        "hidden_size": 10,
        "rule_type": lambda size, **given: MLPRule(size, nonlinearity="silu", **given),
    },
    "rule of the other name": {"hidden_size": 10, "rule_type": BasicNCARule},
}
"""What a model is made with that is no preset."""

TASKS = {
    "BinarySegmentationNCAModel": {},
    "ClassificationNCAModel": {"num_classes": 3, "avg_pool_size": 2},
    "DepthNCAModel": {"shift_free": False},
    "GrowingNCAModel": {},
    "SegmentationNCAModel": {"num_classes": 3, "class_names": ["a", "b", "c"]},
    "SelfClassificationNCAModel": {"num_classes": 3, "cell_loss": "l2"},
}


def level(**changes):
    return BasicNCAModel(**{"num_image_channels": 1, "num_hidden_channels": 4, "hidden_size": 8, **changes})


CELLS = {
    **{f"preset {name}": lambda name=name: build_model(name) for name in presets.__all__ if name not in CLASSES},
    **{
        f"preset {name}": lambda name=name: build_model(name, {"steps": (2,) * len(getattr(presets, name)()["steps"])})
        for name in CLASSES
    },
    **{
        name: lambda changes=changes: BasicNCAModel(**presets.growing(**{"rule": MLPRule(9), **changes}))
        for name, changes in GROWING.items()
    },
    **{name: lambda changes=changes: BasicNCAModel(**changes) for name, changes in ARGUMENTS.items()},
    **{
        name: lambda name=name, options=options: getattr(tasks, name)(**{"hidden_size": 8, **options})
        for name, options in TASKS.items()
    },
    "pyramid of one model": lambda: PyramidNCA(level(), [2, 1], [2, 2], downscale="max"),
    "pyramid of two, by patches": lambda: PyramidNCA([level(), level(hidden_size=9)], [2, 1], [2, 2], patch_size=6),
    "cascade": lambda: CascadeNCA(level(num_output_channels=1), [2, 1], [2, 2], False),
}
"""Name to a function that makes the model."""

ATTENTION, STEERED = "the rule is a AttentionRule", "the perception is a SteerablePerception"
MIXTURE, NORMED, GOAL = "the rule is a MixtureRule", "the rule is a NormedRule", "its cells have a goal"
ON_REFERENCE = {
    "preset attention": ATTENTION,
    "preset conditional": GOAL,
    "preset m3d_nca": NORMED,
    "preset mixture": MIXTURE,
    "preset steerable": STEERED,
    "two hidden layers": "the rule has 2 hidden layers",
    **{f"rule with {kind}": f"the nonlinearity is {kind}" for kind in set(_NONLINEARITIES) - {"relu", "leaky_relu"}},
    "rule by arguments": "the nonlinearity is silu",
    "normed rule": NORMED,
    "rule normed in groups": NORMED,
    "attention rule": ATTENTION,
    "linear rule": "the perception is a Perception, not GroupedPerception",
    "grouped perception": "the perception is a GroupedPerception",
    "isotropic perception": "the perception is a IsotropicPerception",
    "a channel spared by the alive mask": "the alive mask spares channels",
    "goals": GOAL,
    "goals through some channels": GOAL,
    **{f"mixture, {choice}": MIXTURE for choice in CHOICES},
    **{f"steered by {frame}": STEERED for frame in FRAMES},
}
"""What the native back end refuses, and what it names."""

INPUT_MASK, HEAD = "do where the input says so", "no engine for a head, and this {} has a {}"
OFF_THE_PAGE = {
    **{name: reason for name, reason in ON_REFERENCE.items() if "rule has" not in reason and "linearity" not in reason},
    **{f"preset {name}": "not a PyramidNCA" for name in CLASSES},
    "preset self_classifying": INPUT_MASK,
    "input mask": INPUT_MASK,
    "1 dimension": "has 1 spatial dimensions",
    "3 dimensions": "has 3 spatial dimensions",
    "decoder": HEAD.format("BasicNCAModel", "ImplicitDecoder"),
    "ClassificationNCAModel": HEAD.format("ClassificationNCAModel", "ClassificationNCAHead"),
    "pyramid of one model": "not a PyramidNCA",
    "pyramid of two, by patches": "not a PyramidNCA",
    "cascade": "not a CascadeNCA",
}
"""What the live page refuses, and what it names."""


@pytest.fixture(params=CELLS)
def name(request):
    return request.param


@pytest.fixture
def made(name, noise, randomise):
    """A model whose weights are not 0, what it begins with, and what else it is told."""
    torch.manual_seed(0)
    model = randomise(CELLS[name](), 0.1)
    begins_with_image = isinstance(model, (PyramidNCA, TaskNCAModel)) or model.pad_noise
    channels = model.num_image_channels if begins_with_image else model.num_channels
    size = 32 if name == "preset octree_nca" else 9 if model.dims < 3 else 8
    x = 0.5 * noise(2, channels, *[size] * model.dims)
    alive = getattr(model, "alive", None)
    if alive is not None and alive.channel < channels:
        x[:, alive.channel].abs_()
    told = {} if getattr(model, "conditioning", None) is None else {"goal": torch.tensor([0, 2])}
    return model, x, told


def rolled_out(model, x, told, backend="auto"):
    """The last state, and what the model says."""
    steps = {} if isinstance(model, PyramidNCA) else {"steps": 4}
    with using_backend(backend):
        prediction = model.predict(x, seed=5, **steps, **told)
    return prediction.output_image, prediction.pred


def test_out_of_a_file_it_rolls_out_alike(made, tmp_path):
    model, x, told = made
    save_network(model, tmp_path / "cell.pt")
    loaded = load_network(tmp_path / "cell.pt")
    assert type(loaded) is type(model)
    assert loaded.to_dict() == model.to_dict()
    found, expected = (rolled_out(m, x, told) for m in (loaded, model))
    assert all(map(torch.equal, found, expected))
    begin = x if x.shape[1] == model.num_channels else pad_input(x, model, noise=False)
    assert (expected[0] - begin)[:, -model.num_output_channels :].abs().max() > 0.01
    for each in (loaded, model):
        each.training_timesteps = (2, 5)  # long roll-outs of random weights are infinite
    found, expected = (
        m.forward_batch({"data": x, **told}, seed=3, train=True)[0].output_image for m in (loaded, model)
    )
    assert torch.equal(found, expected)
    assert expected.isfinite().all()


def test_native_computes_it_or_names_what_it_does_not_know(name, made):
    if (reason := BACKENDS["native"].unavailable()) is not None:
        pytest.skip(reason)
    if name in ON_REFERENCE:
        with pytest.raises(ConfigError, match=f"back end 'native' cannot do this roll-out: .*{ON_REFERENCE[name]}"):
            rolled_out(*made, backend="native")
        return
    for found, expected in zip(
        rolled_out(*made, backend="native"), rolled_out(*made, backend="reference"), strict=True
    ):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_live_page_computes_it_or_names_what_it_does_not_know(name, made, roll_out):
    model, x, _ = made
    if name in OFF_THE_PAGE:
        with pytest.raises(ExportError, match=OFF_THE_PAGE[name]):
            describe_cell(model)
        return
    if x.shape[1] != model.num_channels:
        x = pad_input(x, model, noise=False)
    with using_backend("reference"):
        expected = model.predict(x[:1], 4, seed=5).output_image
    assert_close(roll_out(model, x[:1], keep=(4,), seed=5)[4], expected, rtol=1e-4, atol=1e-4)


def test_the_walk_passes_every_preset_task_part_and_argument():
    assert {f"preset {name}" for name in presets.__all__} <= CELLS.keys()
    models = {cls.__name__ for cls in vars(tasks).values() if isinstance(cls, type) and issubclass(cls, TaskNCAModel)}
    assert models - {"TaskNCAModel"} == TASKS.keys()
    passed = {type(module) for make in CELLS.values() for module in make().modules()}
    assert {cls for classes in _PARTS.values() for cls in classes} - {GraphPerception} <= passed  # it has no grid
    given = {
        argument for changes in (presets.growing(), *GROWING.values(), *ARGUMENTS.values()) for argument in changes
    }
    assert set(inspect.signature(BasicNCAModel).parameters) - UNTOUCHED == given
