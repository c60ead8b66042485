"""The engines of a live page in a browser, against the reference."""

import math

import pytest
import torch
from torch.testing import assert_close

from delira_nca.data_loading import DataManager, repeat
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, MLPRule, Perception, make_seed, presets
from delira_nca.rollout import fire_mask
from delira_nca.seeding import isolated_rng
from delira_nca.training import PyTorchNetworkTrainer, SamplePool
from delira_nca.training.callbacks import GradientNormalization, LRSchedulerCallback, PoolUpdate, WeightAverage

END = "\ue010"  # of WebDriver's keys
ENGINES = {"javascript": "JavaScript", "webgl": "WebGL ("}
STILL = "window.requestAnimationFrame = () => 0;"
"""Nothing is drawn: the engines have the machine for themselves."""
NO_WEBGL = """
  const original = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return kind.startsWith("webgl") ? null : original.call(this, kind, ...rest);
  };
"""
WRONG_WEBGL = """
  const upload = WebGL2RenderingContext.prototype.bufferData;
  WebGL2RenderingContext.prototype.bufferData = function (target, data, usage) {
    return upload.call(this, target, data.map((value) => value + 1), usage);
  };
"""


@pytest.fixture
def small():
    return BasicNCAModel(**presets.growing(rule=MLPRule(4)))


def roll_out(page, x, steps, seed, fire_rate):
    """State of the engine that runs, after a number of steps."""
    page.state = x
    code = "for (let t = 0; t < given[0]; ++t) live.world.engine.step(t, { seed: given[1], fireRate: given[2] })"
    page(code, steps, seed, fire_rate)
    return page.state


# Values ---------------------------------------------------------------------------------------------------------------


def test_both_engines_compute_the_steps_of_the_reference(some_cell, make_cell, open_page, reference):
    fast, x = make_cell(some_cell, 1.0)
    half, _ = make_cell(some_cell, 0.5)
    page = open_page(fast, "engine=webgl&paused", grid=x.shape[2:], before=STILL, task="grow")
    seed, fixed = 3_000_000_000, fast.num_fixed_channels
    wanted = [reference(fast, x, (1,), seed), reference(half, x, (32,), seed)]
    for engine, name in reversed(ENGINES.items()):
        if engine == "javascript":
            page("live.use('javascript')")
        assert page.engine_text.startswith(name), page.engine_text
        for model, after in zip((fast, half), wanted, strict=True):
            ((steps, true),) = after.items()
            state = roll_out(page, x, steps, seed, model.fire_rate)
            assert_close(state, true, rtol=1e-4, atol=1e-4)
            assert torch.equal(state[:, :fixed], x[:, :fixed])
    assert page.complaints() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_fire_masks_are_those_of_the_package_bit_for_bit(engine, open_page, quiet):
    """Of a model that adds 1 to each cell that fires, the state counts."""
    model = quiet(1.0, rule=MLPRule(1), alive=None, num_image_channels=1, num_hidden_channels=0)
    page = open_page(model, f"engine={engine}&paused", grid=(23, 17), before=STILL)
    for seed, steps, fire_rate in ((0, (0, 1, 2), 0.5), (2**32 - 1, (7, 2**31, 2**32 - 1), 0.05), (2**31, (9,), 0.9)):
        page.state = torch.zeros(1, 1, 23, 17)
        wanted = torch.zeros(1, 1, 23, 17)
        for t in steps:
            page("live.world.engine.step(given[0], { seed: given[1], fireRate: given[2] })", t, seed, fire_rate)
            wanted += fire_mask(seed, t, 1, (23, 17), fire_rate)
        assert torch.equal(page.state, wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_turning_turns_what_the_cells_take_for_up(engine, make_cell, open_page, reference):
    model, x = make_cell("laplacian", 0.5)
    perception = Perception("identity", "sobel", "laplacian", angle=math.pi)
    turned = BasicNCAModel(**presets.growing(perception=perception, rule=MLPRule(24)))
    turned.load_state_dict(model.state_dict())
    page = open_page(model, f"engine={engine}&paused", grid=x.shape[2:], before=STILL)
    page.press("#turn", END)
    assert page.output("turn") == "180°"
    state = roll_out(page, x, 9, 1, 0.5)
    assert_close(state, reference(turned, x, (9,), seed=1)[9], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(state, reference(model, x, (9,), seed=1)[9], rtol=1e-2, atol=1e-2)


def test_a_rectangle_is_read_and_written_alike_in_both_engines(make_cell, open_page):
    model, x = make_cell("33 channels")
    page = open_page(model, "engine=webgl&paused", grid=x.shape[2:], before=STILL)
    boxes = [[0, 0, 9, 9], [2, 3, 4, 1], [8, 8, 1, 1]]
    read = []
    for engine in reversed(ENGINES):
        page(f"live.use('{engine}')")
        page.state = x
        page("live.world.edit(3, 2, 6, 9, (values, u, v) => values.fill(u + v, 1))")
        read.append(page("return given[0].map((box) => [...live.world.engine.read(...box)])", boxes))
    assert read[0] == read[1]
    y, u = torch.meshgrid(torch.arange(2, 9), torch.arange(3, 6), indexing="ij")
    x[:, 1:, 2:9, 3:6] = (y + u).float()
    assert torch.equal(page.state, x)


# Which engine runs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "before", "text"),
    [
        ("javascript", None, "JavaScript runs: as chosen."),
        ("webgl", None, "WebGL ("),
        ("auto", NO_WEBGL, "JavaScript runs: this browser has no WebGL2."),
        ("webgl", NO_WEBGL, "JavaScript runs: this browser has no WebGL2."),
        ("webgl", WRONG_WEBGL, "JavaScript runs: this graphics card computes something else."),
    ],
    ids=["JavaScript", "WebGL", "auto without WebGL", "WebGL without WebGL", "a card that computes something else"],
)
def test_engine_text_names_the_engine_that_runs_and_why(asked, before, text, open_page, small):
    page = open_page(small, f"engine={asked}&paused", grid=(9, 9), before=before)
    assert page.engine_text.startswith(text)
    if before is None:
        assert page.engine_text.endswith(" runs: as chosen.")
        assert page("return document.querySelector('#engines :checked').value") == asked
    page("live.stepOnce()")
    assert page.t == 1


def test_by_default_both_engines_are_measured(open_page, small):
    page = open_page(small, "paused", grid=(9, 9))
    assert "WebGL" in page.engine_text
    assert "full steps a second" in page.engine_text
    fastest = page(r"""
      const [, card, processor] = /WebGL (\d+), JavaScript (\d+)/.exec(live.chosen.why).map(Number);
      return card === processor ? "" : card > processor ? "WebGL" : "JavaScript";
    """)
    assert page.engine_text.startswith(fastest)


def test_engine_can_be_chosen_on_the_page_and_goes_on_where_the_other_was(open_page, randomise):
    model = randomise(BasicNCAModel(**presets.growing(rule=MLPRule(4))), 0.1)
    page = open_page(model, grid=(9, 9), before=STILL)
    page("live.world.step(); live.world.step()")
    before = page.state
    for choice, name in (("WebGL", "WebGL ("), ("JavaScript", "JavaScript runs"), ("Auto", "")):
        page.choose("#engines", choice)
        assert page.engine_text.startswith(name)
        assert page.announced == f"The engine is {page('return live.world.engine.name')}."
        assert page("return document.querySelector('#engines :checked').value") == choice.lower()
        assert torch.equal(page.state, before)
        assert page.t == 2
    assert page.complaints() == []


@pytest.mark.parametrize(
    ("limit", "most", "name"),
    [
        ("MAX_UNIFORM_BLOCK_SIZE", 1024, "everything at once"),
        ("MAX_DRAW_BUFFERS", 2, "update noise and fixed channels"),
    ],
    ids=["weights beyond the uniforms go into a texture", "few outputs take several passes"],
)
def test_a_smaller_card_computes_the_same(limit, most, name, make_cell, open_page, reference):
    few = f"""
      const ask = WebGL2RenderingContext.prototype.getParameter;
      WebGL2RenderingContext.prototype.getParameter = function (name) {{
        return name === this.{limit} ? {most} : ask.call(this, name);
      }};
    """
    model, x = make_cell(name, 0.5)
    page = open_page(model, "engine=webgl&paused", grid=x.shape[2:], before=STILL + few, task="grow")
    assert page.engine_text.startswith("WebGL (")
    if limit == "MAX_DRAW_BUFFERS":
        assert page("return live.world.engine.passes.length") == 2
    assert_close(roll_out(page, x, 8, 4, 0.5), reference(model, x, (8,), seed=4)[8], rtol=1e-4, atol=1e-4)


def test_a_lost_card_leaves_the_dish_as_it_was_and_javascript_goes_on(open_page, randomise):
    model = randomise(BasicNCAModel(**presets.growing(rule=MLPRule(4))), 0.1)
    page = open_page(model, "engine=webgl&paused", grid=(9, 9))
    page("live.stepOnce(); live.stepOnce()")
    before = page.state
    page("live.world.engine.gl.getExtension('WEBGL_lose_context').loseContext()")
    page.until("live.world.engine.name === 'JavaScript'")
    assert page.engine_text == "JavaScript runs: the graphics card was taken away."
    assert torch.equal(page.state, before)
    page("live.play(true)")
    page.until("live.world.t > 5")


# A trained automaton --------------------------------------------------------------------------------------------------

PADDING, SIZE, CHANNELS, HORIZON = 3, 8, 16, 16


def disc():
    """A disc of four colours, (4, 14, 14)."""
    reach = torch.arange(SIZE + 2 * PADDING) - (SIZE / 2 + PADDING) + 0.5
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    inside = (x**2 + y**2 < (SIZE / 2) ** 2).float()
    return torch.stack([inside * (x < 0), inside * (y < 0), inside * (x > 0), inside])


def train_a_healer():
    """An automaton that grows the disc and heals, roughly, after 200 iterations."""
    seed, target = make_seed(CHANNELS, disc().shape[1:]), disc()
    steps = {"training_timesteps": (12, HORIZON), "inference_timesteps": HORIZON}
    with isolated_rng(1):
        perception = Perception("identity", "sobel", "laplacian")
        network = BasicNCAModel(**presets.growing(perception=perception, rule=MLPRule(32), **steps))
    epochs, iterations, batch_size, rate = 10, 20, 4, 6e-3
    schedule = {"T_max": epochs, "eta_min": 0.03 * rate}
    callbacks = [
        GradientNormalization(),
        PoolUpdate(SamplePool(seed, 32, rng_seed=1), num_damaged=2, damage="mixed"),
        WeightAverage(decay=0.98),
        LRSchedulerCallback(torch.optim.lr_scheduler.CosineAnnealingLR, schedule),
    ]
    options = {"callbacks": callbacks, "seed": 1}
    trainer = PyTorchNetworkTrainer(network, None, {"mse": mse}, torch.optim.Adam, {"lr": rate}, **options)
    pair = {"data": seed, "label": target}
    train, valid = DataManager(repeat(pair, batch_size * iterations), batch_size), DataManager(repeat(pair, 2), 2)
    with train, valid:
        return trainer.train(epochs, train, valid, "mse", "lowest"), target


@pytest.mark.processor
def test_a_trained_automaton_grows_from_its_seed_is_wiped_in_half_and_heals_in_both_engines(open_page):
    """Over five seeds, errors relative to an empty dish were at most 0.20 grown, 0.30 healed, at least 0.58 between."""
    model, target = train_a_healer()
    height, width = target.shape[1:]
    run = f"for (let k = 0; k < {HORIZON}; ++k) live.world.step(); live.measure(); return live.error"
    for engine, name in ENGINES.items():
        page = open_page(model, f"engine={engine}&paused", target=target, before=STILL)
        assert page.engine_text.startswith(name)
        assert page("return live.page.horizon") == HORIZON
        empty = page("return live.world.error(live.world.snapshot())")
        assert page.state.count_nonzero() == CHANNELS - 3

        grown = page(run)
        assert grown < 0.35 * empty

        before = page.state
        page.press("#brush", END)
        right = width - 3
        page.drag((right, 0), (right, height - 1))
        after = page.state
        left = [state[:, 3].clamp(0, 1).sum().item() for state in (before, after)]
        assert 0.3 < left[1] / left[0] < 0.7
        assert torch.equal(after[..., : width // 2 - 1], before[..., : width // 2 - 1])
        wiped = page("live.measure(); return live.error")
        assert wiped > 0.45 * empty

        assert page(run) < 0.75 * wiped
        assert page.complaints() == []
