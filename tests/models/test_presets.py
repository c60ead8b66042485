"""Every published model: its numbers, its files, its dimensions, and who can run it."""

import pytest
import torch

from delira_nca.errors import ConfigError, UnknownKeywordError, UnknownNameError
from delira_nca.io.network import load_network, save_network
from delira_nca.models import (
    AliveMask,
    BasicNCAModel,
    InputMask,
    MixtureRule,
    MLPRule,
    SteerablePerception,
    build_model,
    presets,
)
from delira_nca.models.build import CLASSES
from delira_nca.rollout import BACKENDS, Job, using_backend
from delira_nca.rollout.backends import choose

pytestmark = pytest.mark.processor

CELLS = [name for name in presets.__all__ if name not in CLASSES]
PARAMETERS = {
    "attention": 15039,
    "conditional": 10167 + 3 * 16,
    "growing": 8336,
    "isotropic": 9408,
    "micro_texture": 588,
    "mixture": 3 * 8336 + 1568 + 99,
    "persistent": 8336,
    "regenerating": 8336,
    "self_classifying": 22499,
    "steerable": 9856,
    "texture": 5856,
}
ON_REFERENCE = {
    "attention": "the rule is a AttentionRule, not MLPRule itself",
    "conditional": "its cells have a goal",
    "mixture": "the rule is a MixtureRule, not MLPRule itself",
    "steerable": "the perception is a SteerablePerception, not Perception itself",
}
FLAT = {"steerable"}


def state_of(model, noise, size=7):
    x = 0.5 * noise(2, model.num_channels, *[size] * model.dims)
    if model.alive is not None:
        x[:, model.alive.channel].abs_()
    return x


def goal_of(model):
    return None if model.conditioning is None else torch.tensor([0, 2])


@pytest.mark.parametrize("name", presets.__all__)
def test_every_preset_makes_models_of_its_own_that_can_be_described(name):
    first, second = build_model(name), build_model(name)
    assert type(first).from_dict(first.to_dict()).to_dict() == second.to_dict()
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


@pytest.mark.parametrize("name", CELLS)
def test_arguments_of_a_preset_can_be_changed(name):
    assert build_model(name, {"fire_rate": 0.125}).fire_rate == 0.125
    with pytest.raises(UnknownKeywordError, match=f"'{name}' takes no argument 'firerate'.*mean 'fire_rate'"):
        build_model(name, {"firerate": 0.5})


def test_every_cell_has_the_number_of_parameters_of_its_paper():
    assert {name: build_model(name).num_trainable_parameters() for name in CELLS} == PARAMETERS


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_preset_comes_out_of_a_file_as_it_went_in_and_runs_alike(name, dims, tmp_path, noise, randomise, refuses):
    if name in FLAT and dims != 2:
        refuses(ConfigError, f"it takes dims=2, not {dims}", build_model, name, {"dims": dims})
        return
    model = randomise(build_model(name, {"dims": dims}), 0.1)
    x = state_of(model, noise, 7 if dims < 3 else 5)
    save_network(model, tmp_path / "cell.pt")
    loaded = load_network(tmp_path / "cell.pt")
    assert loaded.to_dict() == model.to_dict()
    found, expected = (m.predict(x, 3, seed=5, goal=goal_of(m)).output_image for m in (loaded, model))
    assert torch.equal(found, expected)
    assert not torch.equal(found, x)


@pytest.mark.parametrize("name", sorted(set(CELLS) - set(ON_REFERENCE)))
def test_the_native_back_end_runs_what_it_can_as_the_reference(name, noise, randomise):
    if (reason := BACKENDS["native"].unavailable()) is not None:
        pytest.skip(reason)
    model = randomise(build_model(name), 0.05)
    x = state_of(model, noise, 12)
    found = {}
    for backend in ("native", "sparse", "reference"):
        with using_backend(backend):
            found[backend] = model.predict(x, 6, seed=3).output_image
    for backend in ("native", "sparse"):
        error = (found[backend] - found["reference"]).abs().max()
        assert error <= 1e-5 * found["reference"].abs().max()
    assert (found["reference"] - x).abs().max() > 0.01


@pytest.mark.parametrize("name", CELLS)
def test_what_the_native_back_end_cannot_run_it_names(name, noise):
    if (reason := BACKENDS["native"].unavailable()) is not None:
        pytest.skip(reason)
    model = build_model(name)
    x = state_of(model, noise)
    with torch.no_grad():
        job = Job(x, model.with_goal(goal_of(model), 2), 2, (2,)).gated()
        assert BACKENDS["native"].refusal(job) == ON_REFERENCE.get(name)
        assert choose(job).name == ("reference" if name in ON_REFERENCE else "native")


@pytest.mark.parametrize("name", CELLS)
def test_every_weight_of_a_preset_learns(name, noise, randomise):
    model = randomise(build_model(name), 0.3)
    x = state_of(model, noise)
    out = model(x, 3, seed=1, goal=goal_of(model)).output_image
    (out * noise(*out.shape, seed=9)).sum().backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


def test_growing_is_the_model_of_the_article():
    model = BasicNCAModel(**presets.growing())
    assert model.alive == AliveMask(3, 0.1, before=True, after=True)
    assert model.skips_dead_space
    assert model.to_dict() == build_model("persistent").to_dict() == build_model("regenerating").to_dict()


def test_texture_is_the_model_of_the_article(noise):
    model = build_model("texture")
    assert model.alive is None
    assert model.perception.kernels[1].tolist() == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert model.perception.kernels[3].tolist() == [[1, 2, 1], [2, -12, 2], [1, 2, 1]]
    zero = torch.zeros(1, 12, 16, 16)
    with torch.no_grad():
        model.rule.last.weight.fill_(0.1)
    assert model.predict(zero, 8).output_image.std() > 0  # the update mask alone breaks the symmetry
    assert model.predict(zero, 8, masks=lambda t: None).output_image.std((0, 2, 3)).max() < 1e-6


def test_a_shifted_texture_is_the_texture_of_a_shifted_state(noise, randomise):
    for name in ("texture", "micro_texture", "isotropic"):
        model = randomise(build_model(name, {"fire_rate": 1.0, "alive": None}), 0.1)
        x = noise(1, model.num_channels, 9, 10)
        with using_backend("reference"):
            moved = model.predict(x.roll((3, 5), (2, 3)), 2).output_image
            assert torch.allclose(moved.roll((-3, -5), (2, 3)), model.predict(x, 2).output_image, atol=1e-5)


@pytest.mark.parametrize(("hidden", "parameters"), [(1, 68), (3, 150), (5, 264), (9, 588)])
def test_micro_textures_have_the_sizes_of_the_article(hidden, parameters):
    model = build_model("micro_texture", {"num_hidden_channels": hidden})
    assert model.num_trainable_parameters() == parameters
    assert model.fire_rate == 1.0
    assert 1e-4 < model.rule.last.weight.std() < 1e-2


def test_self_classifying_conditional_and_mixture_are_the_models_of_their_authors():
    model = build_model("self_classifying")
    assert (model.num_channels, model.num_fixed_channels, model.num_output_channels) == (20, 1, 10)
    assert (model.input_mask, model.alive) == (InputMask(0, 0.1), None)
    assert (model.update_noise, model.fire_rate, model.training_timesteps) == (0.02, 0.5, 20)
    model = build_model("conditional")
    assert (model.num_channels, model.num_fixed_channels, model.alive.channel) == (21, 0, 3)
    assert model.input_vector_size == 63
    model = build_model("mixture", {"rule": MixtureRule(2, MLPRule(8), choice="mean")})
    assert model.num_draws == 0
    assert model.rule.num_rules == 2


def test_an_isotropic_automaton_commutes_with_turning_and_mirroring(noise, randomise):
    model = randomise(build_model("isotropic"), 0.1).double()
    x = noise(1, 16, 11, 11).double()
    everywhere = {"steps": 4, "masks": lambda t: None}
    grown = model.predict(x, **everywhere).output_image
    turned = model.predict(torch.rot90(x, 1, (2, 3)), **everywhere).output_image
    assert torch.allclose(turned, torch.rot90(grown, 1, (2, 3)), atol=1e-12)
    assert torch.allclose(model.predict(x.flip(3), **everywhere).output_image, grown.flip(3), atol=1e-12)
    other = randomise(build_model("growing"), 0.1).double()  # the test can fail
    turned, grown = (other.predict(y, **everywhere).output_image for y in (torch.rot90(x, 1, (2, 3)), x))
    assert (turned - torch.rot90(grown, 1, (2, 3))).abs().max() > 0.01


@pytest.mark.parametrize("frame", ["angle", "gradient"])
def test_a_steerable_automaton_commutes_with_turning_it_and_its_angles(noise, randomise, frame):
    changes = {} if frame == "angle" else {"perception": SteerablePerception(frame), "alive": AliveMask(after=False)}
    model = randomise(build_model("steerable", changes), 0.1).double()
    x = noise(1, 16, 11, 11).double()
    everywhere = {"steps": 4, "masks": lambda t: None}
    grown = model.predict(x, **everywhere).output_image

    def turn(state):
        state = torch.rot90(state, 1, (2, 3)).clone()
        if frame == "angle":
            state[:, -1] -= torch.pi / 2
        return state

    assert torch.allclose(model.predict(turn(x), **everywhere).output_image, turn(grown), atol=1e-10)
    if frame == "angle":
        still = model.predict(torch.rot90(x, 1, (2, 3)), **everywhere).output_image
        assert (still - torch.rot90(grown, 1, (2, 3))).abs().max() > 0.01


def test_wrong_names_arguments_and_numbers_are_refused_with_the_nearest(refuses):
    with pytest.raises(UnknownKeywordError, match="'med_nca' takes no argument 'num_chanels'.*mean 'num_channels'"):
        build_model("med_nca", {"num_chanels": 3})
    with pytest.raises(UnknownKeywordError, match="'m3d_nca' takes no argument 'num_level'.*mean 'num_levels'"):
        build_model("m3d_nca", {"num_level": 3})
    refuses(UnknownNameError, "unknown preset 'growin'.*Did you mean 'growing'", build_model, "growin")
    with pytest.raises(ConfigError, match="channel 1 of the input mask is none of the 1 immutable image channels"):
        build_model("self_classifying", {"input_mask": InputMask(1)})
    with pytest.raises(ConfigError, match="none of the 0 immutable image channels"):
        build_model("self_classifying", {"immutable_image_channels": False})
    with pytest.raises(ConfigError, match="num_spared of an alive mask is from 0 to 15 here, not 16"):
        build_model("steerable", {"alive": AliveMask(num_spared=16)})
