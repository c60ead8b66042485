"""The engine of a live page that needs no graphics card, in Node, against the reference."""

import base64
import itertools
import math
import shutil
import subprocess

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from delira_nca.export.cell import describe_cell, pack
from delira_nca.export.html import MODULES, script
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, presets
from delira_nca.models.perception import LearnedFilters
from delira_nca.rollout import fire_mask, rollout, step, update_noise, using_backend
from delira_nca.rollout.masks import fire_threshold

SEEDS = (0, 1, 12345, 2**31 - 1, 2**31, 3_000_000_000, 2**32 - 1)
STEPS = (0, 1, 7, 95, 100_000, 2**31, 2**32 - 1)


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fire_rate", [1.0, 0.5])
def test_engine_computes_the_steps_of_the_reference(any_cell, fire_rate, make_cell, roll_out, reference):
    model, x = make_cell(any_cell, fire_rate)
    wanted = reference(model, x, keep=(1, 32), seed=5)
    for steps, state in roll_out(model, x, keep=(1, 32), seed=5).items():
        assert_close(state, wanted[steps], rtol=1e-4, atol=1e-4)
        assert torch.equal(state[:, : model.num_fixed_channels], x[:, : model.num_fixed_channels])
    assert not torch.equal(wanted[32], x)
    assert wanted[32].abs().max() < 50


def test_float16_weights_are_those_of_the_model_rounded(make_cell, roll_out, reference):
    model, x = make_cell("everything at once", 1.0)
    state = roll_out(model, x, weights="float16")[1]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    assert_close(state, reference(model, x)[1], rtol=1e-5, atol=1e-5)


def test_engine_begins_at_any_step_and_the_fire_rate_of_the_page_goes_before(make_cell, roll_out, reference):
    model, x = make_cell("time channel", 0.5)
    given = {"keep": (3,), "seed": 2, "start": 1000}
    assert_close(roll_out(model, x, **given)[3], reference(model, x, **given)[3])
    model, x = make_cell("fixed channels, no alive mask", 1.0)
    assert torch.equal(roll_out(model, x, keep=(8,), fireRate=0)[8], x)
    seldom, _ = make_cell("fixed channels, no alive mask", 0.1)
    assert_close(roll_out(model, x, keep=(8,), fireRate=0.1)[8], reference(seldom, x, (8,))[8])


def test_alpha_at_the_threshold_is_dead(roll_out, quiet):
    for threshold, before in itertools.product((0.1, 0.3, -0.1), (True, False)):
        model = quiet(alive=AliveMask(3, threshold, before=before, after=not before), fire_rate=1.0)
        x = torch.full((1, 16, 3, 3), threshold)
        assert not model.alive(x).any()
        assert not roll_out(model, x)[1].any(), (threshold, before)


def test_a_dead_cell_that_comes_to_life_keeps_its_neighbours_alive(roll_out, quiet, reference):
    """Its own update counts for a cell between it and the life there was, though it dies itself."""
    model = quiet(alive=AliveMask(0, 0.1), fire_rate=1.0, perception=Perception("identity", "laplacian"))
    with torch.no_grad():
        alpha, beside_life = 0, 16
        model.rule.hidden[0].weight[0, alpha] = 1.0
        model.rule.hidden[0].weight[1, beside_life] = -10.0
        model.rule.hidden[0].bias[1] = 1.0
        model.rule.last.weight[0, :2, 0, 0] = torch.tensor([-200.0, 0.5])  # life ends; two cells away, it begins
    x = torch.zeros(1, 16, 5, 9)
    x[0, 0, 2, 0] = 1.0
    x[0, 5, 2, :3] = 0.7
    state = roll_out(model, x)[1]
    assert torch.equal(state, reference(model, x)[1])
    assert state[0, 5, 2].tolist() == pytest.approx([0, 0.7, 0, 0, 0, 0, 0, 0, 0])
    assert state.count_nonzero() == 1


def test_life_in_a_fixed_channel_is_not_updated_and_nan_of_a_dying_cell_goes_away(roll_out, quiet):
    model = quiet(1.0, alive=AliveMask(3, before=False), fire_rate=1.0, immutable_image_channels=True)
    x = torch.zeros(1, 16, 6, 6)
    x[0, 3, 1, 2] = 1.0
    wanted = x.clone()
    wanted[0, 4:, :3, 1:4] = 2.0
    assert torch.equal(roll_out(model, x, keep=(2,))[2], wanted)
    x = torch.zeros(1, 16, 4, 4)
    x[0, 9, 1, 1] = math.nan
    assert torch.equal(roll_out(quiet(fire_rate=0.0), x)[1], torch.zeros_like(x))


@pytest.mark.parametrize("alive", [None, AliveMask(4, 0.1), AliveMask(0, 0.1)], ids=["none", "free", "fixed"])
def test_nan_stays_out_of_fixed_channels_and_of_cells_that_do_not_see_it(alive, make_cell, roll_out):
    model, x = make_cell("fixed channels", 1.0)
    model.alive = alive
    x = torch.ones_like(x)
    x[0, 7, 3, 4] = math.nan
    fixed = model.num_fixed_channels
    state = roll_out(model, x, keep=(2,))[2]
    assert torch.equal(state[:, :fixed], x[:, :fixed])
    ill = state.isnan().any(1)[0]
    assert ill.any() or alive == AliveMask(4, 0.1)  # NaN is not above the threshold: those cells die
    ill[1:6, 2:7] = False
    assert not ill.any()


def test_engine_reads_and_writes_rectangles(node, quiet):
    described = describe_cell(quiet(num_hidden_channels=0, num_image_channels=4))
    code = """
      const engine = new JavaScriptEngine(new Cell(given.cell), 3, 5);
      engine.write(1, 1, 3, 2, Float32Array.from({ length: 24 }, (_, k) => k + 1));
      return [...[[0, 0, 5, 3], [2, 2, 2, 1]].map((box) => [...engine.read(...box)]), engine.name];
    """
    whole, part, name = node(code, cell=described)
    state = np.zeros((3, 5, 4))
    state[1:3, 1:4] = 1 + np.arange(24).reshape(2, 3, 4)
    assert whole == state.ravel().tolist()
    assert part == state[2, 2:4].ravel().tolist()
    assert name == "JavaScript"


# Randomness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fire_rate", [0.5, 0.05, 1 / 3])
def test_fire_masks_are_those_of_the_package_bit_for_bit(fire_rate, node):
    for rate in (fire_rate, 0.0, 1e-8, 3 * 2**-25, 5 * 2**-25, 0.3, 0.999, 1.0):
        assert node("return fireThreshold(given.rate)", rate=rate) == fire_threshold(rate)
    code = """
      const threshold = fireThreshold(given.fireRate);
      return given.seeds.map((seed) => given.steps.map((t) =>
        Array.from({ length: 77 }, (_, at) => Number(fires(seed, t, at, threshold))).join("")));
    """
    rows = node(code, seeds=SEEDS, steps=STEPS, fireRate=fire_rate)
    for seed, per_step in zip(SEEDS, rows, strict=True):
        for t, bits in zip(STEPS, per_step, strict=True):
            mask = fire_mask(seed, t, 1, (7, 11), fire_rate).flatten().int().tolist()
            assert bits == "".join(map(str, mask)), (seed, t)


def test_update_noise_is_that_of_the_package_bit_for_bit(node):
    code = """
      return given.seeds.map((seed) => given.steps.map((t) =>
        text(Float32Array.from({ length: 5 * 6 * 7 }, (_, item) => noise(seed, t, item)))));
    """
    for seed, per_step in zip(SEEDS, node(code, seeds=SEEDS, steps=STEPS), strict=True):
        for t, drawn in zip(STEPS, per_step, strict=True):
            wanted = update_noise(seed, t, 1, 5, (6, 7))[0].permute(1, 2, 0).contiguous().numpy().tobytes()
            assert base64.b64decode(drawn) == wanted, (seed, t)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_every_finite_float16_is_read_as_it_is_and_float32_bit_for_bit(node, noise):
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)].astype(np.float32)
    packed = pack(torch.from_numpy(values), "float16")
    read = np.frombuffer(base64.b64decode(node("return text(unpack(given.packed).values)", packed=packed)), "<f4")
    assert np.array_equal(read, values)
    assert values[1] == 2.0**-24
    values = noise(3, 5)
    values[0, :3] = torch.tensor([1e-42, -0.0, 3.4e38])
    packed = pack(values)
    assert node("return text(unpack(given.packed).values)", packed=packed) == packed["data"]
    assert node("return unpack(given.packed).shape", packed=packed) == [3, 5]
    assert node("return unpack(null)") is None


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("degrees", [0, 30, 90, 180, -135])
def test_turned_filters_are_those_of_a_turned_perception(degrees, padding, make_cell, roll_out, node, reference):
    def turned(source, size, *filters, **options):
        perception = Perception(*filters, angle=angle, **options)
        model = BasicNCAModel(**presets.growing(perception=perception, rule=MLPRule(size)))
        model.load_state_dict(source.state_dict())
        return model

    angle, filters = math.radians(degrees), ("laplacian", LearnedFilters(2, 5), "sobel", "identity")
    source = BasicNCAModel(**presets.growing(perception=Perception(*filters, padding=padding), rule=MLPRule(9)))
    code = "return text(new Cell(given.cell).filtersTurned(given.angle))"
    read = np.frombuffer(base64.b64decode(node(code, cell=describe_cell(source), angle=angle)), "<f4")
    with torch.no_grad():
        expected = turned(source, 9, *filters, padding=padding).to_arrays().filters.flatten()
    assert_close(torch.from_numpy(read.copy()), expected, rtol=0, atol=1e-6)

    model, x = make_cell("laplacian", 0.5)
    expected = reference(turned(model, 24, "identity", "sobel", "laplacian"), x, keep=(5,))[5]
    assert_close(roll_out(model, x, keep=(5,), angle=angle)[5], expected, rtol=1e-4, atol=1e-4)


# The script as a whole ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_modules_of_the_page_are_one_correct_script(tmp_path):
    """A name that two of them use, or an import that was left, would be a syntax error."""
    file = tmp_path / "page.mjs"
    file.write_text(script(MODULES), encoding="utf-8")
    done = subprocess.run(["node", "--check", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# The dish -------------------------------------------------------------------------------------------------------------

HEIGHT, WIDTH, CHANNELS = 6, 9, 4
PAGE = {"task": "grow", "seed": None, "targets": [], "goals": [], "image": None, "hiddenNoise": None,
        "picture": {"first": 0, "count": 4}}  # fmt: skip


@pytest.fixture
def world(node, quiet):
    """What is left of a dish of ones after some acts: (H, W, C), and whatever they returned last."""

    def act(code, *, fixed=0, seed=None, task="grow", goals=(), target=None, image=None, ones=True, noise=None):
        model = quiet(
            num_image_channels=fixed or CHANNELS,
            num_hidden_channels=CHANNELS - fixed if fixed else 0,
            immutable_image_channels=bool(fixed),
            alive=None,
        )
        page = {**PAGE, "task": task, "grid": [HEIGHT, WIDTH], "hiddenNoise": noise, "randomSeed": 3}
        page |= {
            "seed": None if seed is None else {"block": pack(seed), "whole": False},
            "targets": [None if target is None else pack(target)],
            "goals": [{"name": str(values), "values": values} for values in goals],
            "image": None if image is None else pack(image),
        }
        script = f"""
          const world = new World(given.page, new Cell(given.cell), makeJavaScript);
          const all = () => Float32Array.from({{ length: world.cells * 4 }}, () => 1);
          if (given.ones) world.engine.write(0, 0, world.width, world.height, all());
          const last = (() => {{ {code} }})() ?? null;
          return [text(world.snapshot()), world.height, world.width, last];
        """
        state, height, width, last = node(script, page=page, cell=describe_cell(model), ones=ones)
        return np.frombuffer(base64.b64decode(state), "<f4").reshape(height, width, CHANNELS), last

    return act


def everywhere(value=1.0):
    return np.full((HEIGHT, WIDTH, CHANNELS), value, "f4")


def test_erasing_kills_a_disc_leaves_fixed_channels_and_reaches_over_the_border(world):
    state, _ = world("world.erase(4, 2, 2)", fixed=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    wanted = everywhere()
    wanted[(y - 2) ** 2 + (x - 4) ** 2 <= 4, 1:] = 0
    assert np.array_equal(state, wanted)
    state, _ = world("world.erase(0, 0, 1.5)")
    assert not state[:2, :2].any()
    assert state.sum() == everywhere().sum() - 4 * CHANNELS
    for place in ("-5, 2", "30, 2", "2, -5", "2, 30"):
        assert np.array_equal(world(f"world.erase({place}, 2)")[0], everywhere()), "beside the dish it does nothing"


def test_cutting_kills_one_half(world):
    for side, gone in (("left", np.s_[:, :4]), ("right", np.s_[:, 4:]), ("top", np.s_[:3]), ("bottom", np.s_[3:])):
        wanted = everywhere()
        wanted[gone] = 0
        assert np.array_equal(world(f"world.cut({side!r})")[0], wanted), side


@pytest.mark.parametrize(("x", "y"), [(4, 3), (0, 0), (8, 5), (0, 5)])
def test_a_seed_is_planted_with_its_middle_on_a_cell_as_far_as_it_lies_in_the_dish(x, y, world):
    seed = torch.arange(CHANNELS * 9.0).view(CHANNELS, 3, 3)
    state, _ = world(f"world.plant({x}, {y})", seed=seed, fixed=1)
    wanted = np.pad(everywhere(), ((1, 1), (1, 1), (0, 0)))
    wanted[y : y + 3, x : x + 3, 1:] = seed[1:].permute(1, 2, 0)
    assert np.array_equal(state, wanted[1:-1, 1:-1])


def test_step_counts_and_restart_begins_with_the_seed_in_the_middle_at_step_0(world):
    state, t = world("world.step(); world.step(); world.restart(); return world.t;", seed=torch.ones(CHANNELS, 1, 1))
    assert t == 0
    assert state.sum() == CHANNELS
    assert state[HEIGHT // 2, WIDTH // 2].all()
    assert world("for (let k = 0; k < 3; ++k) world.step(); return world.t;")[1] == 3


def test_another_goal_changes_fixed_channels_alone_and_stays_over_a_restart(world):
    for code, cell in (
        ("world.choose(1)", [0, 5, 1, 1]),
        ("world.choose(1); world.restart();", [0, 5, 0, 0]),
        ("world.restart();", [1, 0, 0, 0]),
    ):
        state, _ = world(code, fixed=2, goals=([1.0, 0.0], [0.0, 5.0]))
        assert (state == np.array(cell)).all(), code


def test_error_is_the_mean_squared_difference_from_the_target(world, noise):
    target = noise(4, HEIGHT, WIDTH)
    _, error = world("return world.error(world.snapshot())", target=target)
    assert error == pytest.approx(float(((target - 1) ** 2).mean()), rel=1e-6)
    assert world("return world.error(world.snapshot())")[1] is None


def test_an_image_is_seen_and_another_one_changes_the_dish(world, noise):
    image = noise(2, 3, 8)
    state, _ = world("", fixed=2, task="segment", image=image, ones=False)
    assert np.array_equal(state[..., :2], image.permute(1, 2, 0))
    assert not state[..., 2:].any()
    code = """
      world.step();
      world.show({ shape: [2, 2, 5], values: Float32Array.from({ length: 20 }, (_, k) => k) });
      return [world.t, world.engine.height, world.engine.width];
    """
    state, after = world(code, fixed=2, task="segment", image=image)
    assert after == [0, 2, 5]
    assert np.array_equal(state[..., 0].ravel(), np.arange(10))
    assert np.array_equal(state[..., 1].ravel(), np.arange(10, 20))
    assert not state[..., 2:].any()
    state, _ = world("", fixed=1, task="segment", noise={"mean": 0.5, "std": 0.225, "first": 1, "count": 2}, ones=False)
    drawn = update_noise(3, 2**32 - 1, 1, 2, (HEIGHT, WIDTH))[0].permute(1, 2, 0).numpy()
    assert np.allclose(state[..., 1:3], 0.5 + 0.225 * drawn, atol=1e-6), "hidden channels begin as noise of the seed"
    assert not state[..., [0, 3]].any()


@pytest.mark.parametrize("steps", [0, 3])
def test_a_drawing_stays_over_a_restart_and_goes_when_it_is_cleared_or_rubbed_out(steps, world):
    draw = f"world.draw(4, 2, 1, 1); for (let k = 0; k < {steps}; ++k) world.step();"
    state, t = world(f"{draw} world.restart(); return world.t", fixed=1, task="classify", ones=False)
    assert t == 0
    assert state[..., 0].sum() == 5
    assert state[1:4, 4, 0].all()
    assert not state[..., 1:].any()
    assert not world(f"{draw} world.clear();", fixed=1, task="classify", ones=False)[0].any()
    state, _ = world("world.draw(4, 2, 1, 0)", fixed=1, task="classify")
    assert not state[2, 3:6].any()
    assert state.sum() == everywhere().sum() - 5 * CHANNELS


def test_a_move_to_another_engine_keeps_state_time_and_angle(world):
    code = """
      world.turn(90);
      const first = world.engine;
      const turns = [];
      world.move((cell, height, width) => {
        const engine = makeJavaScript(cell, height, width);
        engine.turn = (angle) => turns.push(angle);
        return engine;
      });
      return [world.engine === first, turns];
    """
    state, (same, turns) = world(code)
    assert np.array_equal(state, everywhere())
    assert not same
    assert turns == [pytest.approx(math.pi / 2)]


def test_step_of_the_world_uses_its_fire_rate_and_the_seed_of_the_page(node, make_cell, as_text, as_state):
    model, x = make_cell("fixed channels, no alive mask", 0.5)
    page = {**PAGE, "grid": list(x.shape[2:]), "randomSeed": 2**32 - 1}
    code = """
      const world = new World(given.page, new Cell(given.cell), makeJavaScript);
      world.engine.write(0, 0, world.width, world.height, floats(given.state));
      world.step();
      world.options.fireRate = 0.25;
      world.step();
      return text(world.snapshot());
    """
    state = as_state(node(code, page=page, cell=describe_cell(model), state=as_text(x)), *x.shape[1:2], x.shape[2:])
    with using_backend("reference"), torch.no_grad():
        middle = rollout(x, model, 1, seed=2**32 - 1)
        fire = fire_mask(2**32 - 1, 1, 1, x.shape[2:], 0.25)
        assert_close(state, step(model, middle, 1, fire), rtol=1e-4, atol=1e-4)
