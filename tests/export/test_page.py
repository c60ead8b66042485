"""A live page in a browser: every control does what it says."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, Perception, presets
from delira_nca.models.perception import LearnedFilters

# WebDriver's names of keys
END, HOME, LEFT, UP, RIGHT, DOWN, ENTER, SHIFT, SPACE = (
    *("\ue010", "\ue011", "\ue012", "\ue013", "\ue014", "\ue015", "\ue007", "\ue008", " "),
)
SIZE = 12


def quiet(value=0.0, **changes):
    """A model that adds a value to every channel of a cell in each step, whatever the cell sees."""
    model = BasicNCAModel(**presets.growing(**{"rule": MLPRule(2), "alive": None, "fire_rate": 1.0, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.rule.last.bias.fill_(value)
    return model


def steered():
    """Two fixed channels say what to grow; four output channels are the picture."""
    return quiet(num_image_channels=2, num_hidden_channels=1, num_output_channels=4, immutable_image_channels=True)


def voting(randomise=None):
    """One channel of ink, three classes; who is not inked dies. Of the quiet one, every cell votes for the second."""
    parts = {"num_image_channels": 1, "num_hidden_channels": 2, "num_output_channels": 3}
    model = quiet(**parts, immutable_image_channels=True, alive=AliveMask(0, 0.1))
    if randomise is not None:
        return randomise(model, 0.5)
    with torch.no_grad():
        model.rule.last.bias[3] = 1.0
    return model


def segmenting(randomise, image=3, output=1):
    """Learned filters, reflected borders, noise in the hidden channels: a model of a segmentation."""
    perception = Perception("identity", LearnedFilters(2, 3), padding="reflect")
    parts = {"num_image_channels": image, "num_hidden_channels": 8, "num_output_channels": output}
    rule = MLPRule(16, final_bias=False)
    model = BasicNCAModel(
        **presets.growing(**parts, immutable_image_channels=True, perception=perception, rule=rule, alive=None),
        pad_noise=True,
    )
    return randomise(model, 0.1)


def everywhere(value=1.0, channels=16, size=SIZE):
    return torch.full((1, channels, size, size), value)


def distance(x, y, size=SIZE):
    """(size, size) squared distances of all cells from one."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (row - y) ** 2 + (column - x) ** 2


@pytest.fixture
def dish(open_page):
    """A dish of ones in which nothing happens by itself."""
    page = open_page(quiet(), grid=(SIZE, SIZE))
    page.state = everywhere()
    return page


# Opening --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(open_page, randomise):
    """Open one of each kind of page."""

    def open_(kind, fragment="engine=javascript&paused", **options):
        kinds = {
            "grow": (quiet(), {"target": torch.zeros(4, 16, 16), "figures": {"parameters": 1}}),
            "goals": (steered(), {"goals": {"one": [1, 0], "two": [0, 1]}, "grid": (16, 16)}),
            "segment": (segmenting(randomise), {"grid": (16, 16)}),
            "segment with an image": (segmenting(randomise, 1, 3), {"image": torch.rand(1, 10, 16)}),
            "classify": (voting(), {"classes": ["cat", "dog", "fish"], "grid": (16, 16)}),
        }
        model, given = kinds[kind]
        return open_page(model, fragment, **given, **options)

    return open_


KINDS = ("grow", "goals", "segment", "segment with an image", "classify")


@pytest.mark.parametrize("kind", ["grow", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_page_opens_and_runs_without_a_complaint_and_asks_nothing_of_the_network(kind, pages):
    page = pages(kind, fragment="", title="A dish of 5 µm & more <b>")
    page.until("live.world.t > 3 && live.player.playing")
    asked = page.asked
    assert any(url.endswith("live.html") for url in asked)
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert page.complaints() == []
    assert page.browser.title == page.at("h1").text == "A dish of 5 µm & more <b>"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wider_than_a_phone_and_every_control_has_a_name(kind, pages):
    page = pages(kind, width=390, title="A title of several words that is longer than a line of a phone is wide")
    assert page("return innerWidth") == 390
    assert page("return document.scrollingElement.scrollWidth") <= 390
    assert page.beyond_a_phone == []
    page.emulate()
    roles = {"button", "slider", "radio", "radiogroup", "img", "Canvas", "image"}
    names = [(role, name) for role, name in page.names if role in roles]
    assert all(name.strip() for role, name in names), names
    buttons = {name for role, name in names if role == "button"}
    assert {"Play", "Step", "Restart"} <= buttons
    assert ("Cut in half" in buttons) == (kind != "classify")
    assert ("Open a picture…" in buttons) == kind.startswith("segment")
    assert ("Clear" in buttons) == (kind == "classify")
    assert sum(role == "slider" for role, _ in names) == (4 if page("return live.page.cell.gradients.length") else 3)
    assert len(set(names)) == len(names)


def test_page_plays_at_once_unless_the_person_wants_less_motion(open_page):
    page = open_page(quiet(), "engine=javascript", grid=(6, 6))
    page.until("live.world.t > 1")
    assert page.at("#play").text == "Pause"
    page = open_page(quiet(), "engine=javascript", grid=(6, 6), media={"prefers_reduced_motion": "reduce"})
    page.frames(5)
    assert page.t == 0
    assert page.at("#play").text == "Play"
    page.at("#play").click()
    page.until("live.world.t > 1")


def test_dark_and_light_have_papers_of_their_own_and_texts_are_shown_as_they_were_written(open_page):
    figures = {"<i>parameters</i>": "8 336", "b": 2}
    texts = {"figures": figures, "explanation": ["<b>one</b>", "two"]}
    page = open_page(quiet(), grid=(6, 6), media={"prefers_color_scheme": "dark"}, **texts)
    assert page.at("#explanation").text.splitlines() == ["<b>one</b>", "two"]
    assert page.at("#figures dl").text.splitlines() == ["<i>parameters</i>", "8 336", "b", "2"]
    assert torch.equal(page.colours[0, 0], torch.tensor([12.0, 13.0, 15.0]))
    body = "return getComputedStyle(document.body).backgroundColor"
    assert page(body) == "rgb(19, 20, 23)"
    page.emulate(prefers_color_scheme="light")
    page.until("live.style.paper[0] === 255")
    assert torch.equal(page.colours[0, 0], torch.full((3,), 255.0))
    assert page(body) == "rgb(246, 245, 242)"


# Time -----------------------------------------------------------------------------------------------------------------


def test_play_button_and_space_play_and_pause(dish):
    def touch(way):
        dish("document.activeElement.blur()")
        dish.at("#play").click() if way == "button" else dish.press("body", SPACE)

    for way in ("button", "space"):
        before = dish.t
        assert dish.at("#play").text == "Play"
        touch(way)
        assert dish.at("#play").text == "Pause"
        assert dish.announced == "Playing."
        dish.until("live.world.t > given[0] + 1", before)
        touch(way)
        stopped = dish.t
        assert dish.announced == f"Paused at step {stopped}."
        dish.frames(4)
        assert dish.t == stopped
        assert dish("return document.getElementById('clock').textContent") == f"step {stopped}"


def test_step_does_one_step_and_pauses_and_restart_begins_from_the_seed(open_page):
    page = open_page(quiet(0.25), grid=(SIZE, SIZE))
    for way in ("button", "key"):
        page.state = everywhere(0.0)
        page("live.play(true); live.player.speed = 1e-9;")
        for t in (1, 2):
            page.at("#step").click() if way == "button" else page.press("#dish", ".")
            assert page.t == t
            assert torch.equal(page.state, everywhere(0.25 * t))
            assert page.at("#play").text == "Play"
            assert page.announced == f"Step {t}."
        page.at("#restart").click() if way == "button" else page.press("#dish", "r")
        assert page.t == 0
        assert page.announced == "Restarted from the seed."
        assert page.state.count_nonzero() == 13
        assert torch.equal(page.state[0, 3:, 6, 6], torch.ones(13))


def test_speed_is_shown_and_handed_on(dish):
    for keys, text, speed in (([HOME], "1/s", 1), ([END], "fastest", 512)):
        dish.press("#speed", *keys)
        assert (dish.output("speed"), dish("return live.player.speed")) == (text, speed)
    dish.press("#speed", *[LEFT] * 20)
    speed = dish("return live.player.speed")
    assert 1 < speed < 512
    assert dish.output("speed") == f"{speed}/s"


def test_fire_rate_0_freezes_and_1_fires_everywhere_and_turns_are_offered_where_something_turns(open_page):
    page = open_page(quiet(1.0), grid=(SIZE, SIZE))
    page.state = everywhere(0.0)
    page.press("#fire", HOME)
    assert page.output("fire") == "0.00"
    page("live.stepOnce()")
    assert page.t == 1
    assert not page.state.any()
    page.press("#fire", END)
    page("live.stepOnce()")
    assert torch.equal(page.state, everywhere())
    page.press("#fire", *[LEFT] * 10)
    page("live.stepOnce()")
    assert set(page.state.unique().tolist()) == {1.0, 2.0}
    assert page.at("#turning").is_displayed()
    page.press("#turn", RIGHT)
    assert page("return live.world.angle") == 5
    page = open_page(quiet(perception=Perception("identity", "learned")), grid=(6, 6))
    assert not page.at("#turning").is_displayed()
    assert not page.at("#turn-note").is_displayed()


# The brush ------------------------------------------------------------------------------------------------------------


def test_brush_kills_a_disc_of_its_size(dish):
    for keys, radius in (([HOME], 1), ([RIGHT] * 2, 2), (["]"], 3), (["["], 2), ([END], 4)):
        dish.press("#brush", *keys)
        assert dish("return live.dish.radius") == radius
        assert dish.output("brush") == str(radius)
        dish.state = everywhere()
        dish.drag((4, 5))
        wanted = everywhere() * (distance(4, 5) > radius**2)
        assert torch.equal(dish.state, wanted)
        assert dish.announced == "Erase at column 4, row 5."


def test_a_fast_stroke_leaves_no_gaps_and_moving_without_pressing_does_nothing(dish):
    canvas = dish.at("#dish")
    dish.hand().move_to_element_with_offset(canvas, *dish.offset(4, 4)).perform()
    dish.hand().move_to_element_with_offset(canvas, *dish.offset(8, 8)).context_click().perform()
    assert torch.equal(dish.state, everywhere())
    dish.press("#brush", HOME)
    dish.drag((1, 6), (10, 6))
    alive = dish.state[0, 0]
    assert not alive[6, :].any()
    assert alive[:5].all()
    assert alive[8:].all()


def test_plant_puts_the_seed_where_the_person_clicks_unless_it_fills_the_dish(dish, open_page, noise):
    dish.choose("#tools", "Plant")
    dish.state = everywhere(0.0)
    dish.drag((2, 9), (3, 9))
    state = dish.state
    assert state.count_nonzero() == 13
    assert torch.equal(state[0, 3:, 9, 2], torch.ones(13))
    assert dish.announced == "Plant at column 2, row 9."
    dish.choose("#tools", "Erase")
    dish.drag((2, 9))
    assert not dish.state.any()
    assert open_page(quiet(), grid=(6, 6), seed=noise(16, 6, 6)).at("#tools").text == "Erase"


def test_arrows_move_the_brush_and_enter_uses_it(dish):
    dish.press("#brush", HOME)
    dish.press("#dish", ENTER)
    middle = SIZE // 2
    assert torch.equal(dish.state, everywhere() * (distance(middle, middle) > 1))
    dish.state = everywhere()
    dish.press("#dish", LEFT, LEFT, UP, RIGHT, DOWN, DOWN, ENTER)
    assert torch.equal(dish.state, everywhere() * (distance(middle - 1, middle + 1) > 1))
    dish.state = everywhere()
    hand = dish.hand().key_down(SHIFT).send_keys(UP, UP, RIGHT, RIGHT).key_up(SHIFT).send_keys(ENTER)
    hand.perform()
    assert torch.equal(dish.state, everywhere() * (distance(SIZE - 1, 0) > 1))
    assert dish.announced == f"Erase at column {SIZE - 1}, row 0."


def test_cutting_takes_right_left_top_and_bottom_in_turn(dish):
    half = SIZE // 2
    kept = {
        "right": np.s_[..., :half],
        "left": np.s_[..., half:],
        "top": np.s_[..., half:, :],
        "bottom": np.s_[..., :half, :],
    }
    for number, side in enumerate([*kept, "right"]):
        dish.state = everywhere()
        dish.at("#cut").click() if number % 2 else dish.press("#dish", "c")
        wanted = everywhere(0.0)
        wanted[kept[side]] = 1.0
        assert torch.equal(dish.state, wanted)
        assert dish.announced == f"The {side} half was removed at step 0."


def test_distance_from_the_target_is_measured_and_drawn(open_page, noise):
    target = noise(4, SIZE, SIZE)
    page = open_page(quiet(), target=target)
    page.state = everywhere(0.5)
    page.at("#step").click()
    wanted = float(((target.half().float() - 0.5) ** 2).mean())
    assert page("return live.error") == pytest.approx(wanted, rel=1e-5)
    assert page("return live.chart.points.slice(1)") == [{"t": 1, "error": pytest.approx(wanted, rel=1e-5)}]
    page.frames()
    shown = page("return document.querySelector('#distance output').textContent")
    assert float(shown) == pytest.approx(wanted, rel=0.05)
    page.at("#cut").click()
    assert page("return live.chart.wounds") == [1]
    page.at("#restart").click()
    assert page("return live.chart.wounds") == []
    assert page("return live.chart.points.length") == 1


# What is shown --------------------------------------------------------------------------------------------------------

BELOW, ABOVE, WHITE = (torch.tensor(colour) for colour in ([47.0, 91, 208], [226.0, 87, 44], [255.0, 255, 255]))


def test_picture_is_colour_over_paper_and_each_channel_has_a_view_and_a_thumbnail(open_page):
    page = open_page(quiet(), grid=(4, 6))
    source = torch.Generator().manual_seed(0)
    x = torch.rand(1, 16, 4, 6, generator=source) * 3 - 1.5
    x[:, 3] = torch.rand(1, 4, 6, generator=source)
    x[:, :3] = torch.rand(1, 3, 4, 6, generator=source) * x[:, 3:4]
    page.state = x
    picture = (x[0, :3] + 1 - x[0, 3]).permute(1, 2, 0)
    assert_close(page.colours, picture.clamp(0, 1) * 255, rtol=0, atol=1.0)
    names = page("return live.page.channelNames")
    labels = page.at("#views").find_elements("tag name", "label")
    assert [label.get_attribute("title") for label in labels] == ["picture", *names]
    for channel in (0, 3, 15):
        page.choose("#views", names[channel])
        assert page("return document.getElementById('shown').textContent") == names[channel]
        value = x[0, channel].unsqueeze(-1)
        wanted = WHITE + value.abs().clamp(max=1) * (torch.where(value < 0, BELOW, ABOVE) - WHITE)
        assert_close(page.colours, wanted, rtol=0, atol=1.0)
    page.choose("#views", "picture")
    assert_close(page.colours, picture.clamp(0, 1) * 255, rtol=0, atol=1.0)

    page.state = (1 - 2 * (torch.arange(16.0) % 2)).view(1, 16, 1, 1).expand(1, 16, 4, 6)
    page("live.thumbnailsAt = null; live.state = live.world.snapshot(); live.redraw()")
    middles = page("""
      return live.views.slice(1).map(({ canvas }) => [...canvas.getContext("2d").getImageData(24, 24, 1, 1).data]);
    """)
    assert middles == [[*(ABOVE if channel % 2 == 0 else BELOW).int().tolist(), 255] for channel in range(16)]


def test_goals_change_what_is_to_grow_and_its_target(open_page):
    targets = {"one": torch.zeros(4, 6, 6), "two": torch.ones(4, 6, 6)}
    page = open_page(steered(), goals={"one": [1, 0], "two": [0, 2]}, target=targets)
    seeded = page.state
    assert torch.equal(seeded[0, :2].amax((1, 2)), torch.tensor([1.0, 0.0]))
    page.choose("#goals", "two")
    assert page.announced == "The goal is two."
    state = page.state
    assert torch.equal(state[0, :2, 0, 0], torch.tensor([0.0, 2.0]))
    assert torch.equal(state[:, 2:], seeded[:, 2:])
    page("live.stepOnce()")
    assert page("return live.error") == pytest.approx(35 / 36)
    page.choose("#goals", "one")
    page("live.stepOnce()")
    assert page("return live.error") == pytest.approx(1 / 36)


# Classifying ----------------------------------------------------------------------------------------------------------

CLASSES = ["cat", "dog", "fish"]


def votes(page):
    page("live.thumbnailsAt = null; live.state = live.world.snapshot(); live.redraw()")
    rows = page.at("#votes ol").find_elements("tag name", "li")
    return {row.text.split()[0]: int(row.text.split()[1]) for row in rows}


def test_a_drawing_is_inked_votes_and_is_rubbed_out_and_cleared(open_page):
    page = open_page(voting(), classes=CLASSES, grid=(SIZE, SIZE))
    assert votes(page) == {"cat": 0, "dog": 0, "fish": 0}
    page.press("#brush", END)
    page.drag((3, 3), (8, 3))
    ink = page.state[0, 0]
    assert ink[3, 3:9].all()
    assert not ink[8:].any()
    assert set(ink.unique().tolist()) == {0.0, 1.0}
    page("live.stepOnce()")
    assert votes(page) == {"cat": 0, "dog": 100, "fish": 0}
    assert torch.equal(page.state[0, 0], ink)
    colours = page.colours
    assert (colours[ink > 0] == ABOVE).all()
    assert (colours[ink == 0] == WHITE).all()

    page("live.restart()")
    assert torch.equal(page.state[0, 0], ink)
    assert page.t == 0
    page.choose("#tools", "Rub out")
    page.drag((3, 3))
    assert page.state[0, 0, 3, 3] == 0
    assert 0 < page.state[0, 0].sum() < ink.sum()
    page.at("#clear").click()
    assert page.announced == "Cleared."
    assert not page.state.any()
    assert not page.at("#cut").is_displayed()


def test_votes_are_shares_of_the_inked_cells(open_page, randomise):
    page = open_page(voting(), classes=CLASSES, grid=(SIZE, SIZE))
    x = everywhere(0.0, channels=6)
    x[0, 0].view(-1)[:40] = 1.0
    for k, count in enumerate((10, 6, 24)):
        x[0, 3 + k].view(-1)[[0, 10, 16][k] :][:count] = 1.0
    page.state = x
    assert votes(page) == {"cat": 25, "dog": 15, "fish": 60}
    page = open_page(voting(randomise), classes=CLASSES, grid=(SIZE, SIZE))
    page.drag((2, 2), (9, 9), (9, 3))
    for _ in range(3):
        page("live.stepOnce()")
        assert sum(votes(page).values()) == pytest.approx(100, abs=1)


# Segmenting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["javascript", pytest.param("webgl", marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [(40, 20), (10, 20)])
def test_a_picture_of_ones_own_is_looked_at_in_its_proportions(engine, size, open_page, randomise, tmp_path):
    width, height = size
    colour = (64, 128, 255)
    Image.new("RGB", size, colour).save(tmp_path / "mine.png")
    normalize = ([0.5, 0.25, 0.0], [0.5, 0.25, 2.0])
    options = {"grid": (16, 24), "normalize": normalize, "weights": "float32"}
    page = open_page(segmenting(randomise), f"engine={engine}&paused", **options)
    page("live.stepOnce()")
    before = page.state
    (tmp_path / "mine.txt").write_text("no picture")
    page.at("#file").send_keys(str(tmp_path / "mine.txt"))
    page.until("document.getElementById('announcer').textContent.startsWith('mine.txt')")
    assert page.announced == "mine.txt is not a picture that this browser can read."
    assert torch.equal(page.state, before)
    page.at("#file").send_keys(str(tmp_path / "mine.png"))
    columns, rows = round(24 * width / max(size)), round(24 * height / max(size))
    page.until("document.getElementById('announcer').textContent.startsWith('mine.png')")
    assert page.announced == f"mine.png, {columns} by {rows} cells."
    assert page.t == 0
    state = page.state
    assert state.shape[2:] == (rows, columns)
    wanted = (torch.tensor(colour) / 255 - torch.tensor(normalize[0])) / torch.tensor(normalize[1])
    assert_close(state[0, :3], wanted.view(3, 1, 1).expand(3, rows, columns), rtol=0, atol=0.02)
    assert state[0, 3:11].std() > 0.1
    assert not state[0, 11].any()
    box = page("const b = document.getElementById('dish').getBoundingClientRect(); return [b.width, b.height]")
    assert box[0] / box[1] == pytest.approx(columns / rows, rel=0.02)
    page("live.play(true)")
    page.until("live.world.t > 2")
    page("live.play(false)")
    state = page.state
    assert torch.isfinite(state).all()
    assert state[0, 11].any()
    assert page.complaints() == []


def test_decisions_are_drawn_over_the_picture(open_page, randomise):
    """One output: orange where it is above zero, the more the surer; grey images are grey."""
    page = open_page(segmenting(randomise, image=1), image=torch.full((1, 6, 6), 0.5), normalize=([0.1], [0.5]))
    x = page.state
    x[0, -1] = torch.linspace(-3, 3, 36).view(6, 6)
    page.state = x
    grey = torch.full((6, 6, 3), round((0.5 * 0.5 + 0.1) * 255.0))
    sure = x[0, -1].sigmoid().unsqueeze(-1)
    wanted = torch.where(sure > 0.5, grey + 0.6 * sure * (ABOVE - grey), grey)
    assert_close(page.colours, wanted, rtol=0, atol=1.5)


def test_of_several_classes_the_first_is_background_and_erasing_takes_the_answer(open_page, randomise):
    page = open_page(segmenting(randomise, image=3, output=3), image=torch.full((3, SIZE, SIZE), 0.25))
    x = page.state
    x[0, -3:] = 0.0
    for k in range(3):
        x[0, -3 + k, 4 * k : 4 * k + 4] = 5.0
    page.state = x
    grey = torch.full((3,), 64.0)
    sure = math.exp(5) / (math.exp(5) + 2)
    third = torch.tensor([29.0, 148.0, 92.0])
    for row, colour in ((0, grey), (4, grey + 0.6 * sure * (ABOVE - grey)), (8, grey + 0.6 * sure * (third - grey))):
        assert_close(page.colours[row, 0], colour, rtol=0, atol=1.5)
    x[:, 3:] = 1.0
    page.state = x
    page.drag((5, 5))
    after = page.state
    assert torch.equal(after[:, :3], x[:, :3])
    assert not after[0, 3:, 5, 5].any()
    assert after[0, 3:, 0, 0].all()
