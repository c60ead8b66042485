"""A page of a training in a browser: newer weights and those of earlier epochs, without losing the dish."""

import pytest
import torch
from torch.testing import assert_close

from delira_nca.export import LivePage
from delira_nca.models import AliveMask, BasicNCAModel, MLPRule, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.scores import BestScore

ENGINES = ("javascript", "webgl")
RIGHT, HOME, END = "\ue014", "\ue011", "\ue010"  # WebDriver's names of keys
SIZE = 8
ONES = torch.ones(1, 16, SIZE, SIZE)


class Training:
    """A training whose epochs end when a test says so; after epoch n, each step adds n / 4 to every channel."""

    def __init__(self, folder, **options):
        cell = {"rule": MLPRule(2), "alive": None, "fire_rate": 1.0}
        cell |= {name: options.pop(name) for name in ("alive", "num_hidden_channels") if name in options}
        self.network = BasicNCAModel(**presets.growing(**cell))
        self.trainer = PyTorchNetworkTrainer(self.network, None)
        self.trainer.best = BestScore("loss", "lowest")
        options = {"grid": (SIZE, SIZE), "title": "a dish", **options}
        self.page = LivePage(folder / "live.html", every=0.0, share=1.0, **options)
        self.set_bias(0.0)
        self.page.at_training_begin(self.trainer, num_epochs=9)

    def set_bias(self, value):
        with torch.no_grad():
            for parameter in self.network.parameters():
                parameter.zero_()
            self.network.rule.last.bias.fill_(value)

    def end_epoch(self):
        epoch = self.trainer.start_epoch
        self.set_bias(epoch / 4)
        metrics = {"loss": 1 / epoch}
        if self.trainer.best.update(epoch, metrics):
            self.trainer._best_weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.trainer.history.append({"epoch": epoch, **metrics})
        self.trainer.start_epoch += 1
        self.page.at_epoch_end(self.trainer, curr_epoch=epoch)

    def end(self, **figures):
        self.page.finish(self.trainer, figures)


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path)


@pytest.fixture
def watch(open_page):
    """Open the page of a training, in which every cell holds ones."""

    def open_(training, fragment="engine=javascript&paused", **options):
        page = open_page.file(training.page.path, fragment, **options)
        page.state = ONES
        return page

    return open_


def shown(page, selector):
    return page(f"const e = document.querySelector({selector!r}); return e.checkVisibility() ? e.textContent : null")


@pytest.mark.parametrize("engine", ENGINES)
def test_newer_weights_are_taken_and_the_dish_stays(engine, training, watch):
    page = watch(training, f"engine={engine}&paused")
    page("live.stepOnce()")
    assert torch.equal(page.state, ONES)
    assert shown(page, "#count") == "0 of 9 epochs"
    training.end_epoch()
    training.end_epoch()
    page.until("live.training.used === 2")
    assert (page.t, torch.equal(page.state, ONES)) == (1, True)
    assert shown(page, "#count") == "2 of 9 epochs"
    assert shown(page, "#news") == "loss 0.5, after epoch 2"
    page("live.stepOnce()")
    assert torch.equal(page.state, ONES + 0.5)
    assert page.engine_text.startswith({"javascript": "JavaScript", "webgl": "WebGL ("}[engine])
    assert page.complaints() == []


def test_weights_can_be_held_and_taken_later(training, watch):
    page = watch(training)
    page.choose("#ways", "Hold")
    training.end_epoch()
    page.until("live.training.latest.epoch === 1")
    page("live.stepOnce()")
    assert torch.equal(page.state, ONES)
    assert shown(page, "#newer") == "Use epoch 1"
    page.at("#newer").click()
    assert shown(page, "#newer") is None
    assert page.announced == "The weights are those of epoch 1."
    page("live.stepOnce()")
    assert torch.equal(page.state, ONES + 0.25)


@pytest.mark.parametrize(
    ("state", "is_lost"),
    [("1", False), ("0", True), ("NaN", True), ("3", True)],
    ids=["alive", "dead", "not finite", "farther from the target than an empty dish"],
)
def test_only_a_dish_that_is_not_worth_keeping_begins_again(state, is_lost, tmp_path, watch):
    training = Training(tmp_path, alive=AliveMask(3, 0.1), target=torch.ones(4, SIZE, SIZE), steps=5)
    page = watch(training)
    page("const w = live.world; w.engine.write(0, 0, 8, 8, w.snapshot().fill(Number(given[0])))", state)
    page("live.player.speed = 1e-9; live.player.playing = true; live.world.t = 6")
    training.end_epoch()
    page.until("live.training.used === 1")
    assert (page.t == 0) == is_lost


def test_a_page_that_is_opened_late_takes_the_weights_at_once_and_the_pattern_can_grow_anew(training, watch):
    training.end_epoch()
    page = watch(training)
    page("live.stepOnce()")
    assert torch.equal(page.state, ONES + 0.25)
    page.choose("#ways", "Regrow")
    training.end_epoch()
    page.until("live.training.used === 2")
    assert page.t == 0
    assert page.state.count_nonzero() == 13


def test_a_training_that_says_nothing_may_have_been_stopped(training, watch):
    page = watch(training)
    assert shown(page, "#silence") is None
    page("live.training.hear = () => {}")  # otherwise a look that is under way finds the true time again
    page("live.training.latest.written -= 200; live.training.show()")
    assert shown(page, "#silence") == "No news for 3 min: it may have been stopped."


def test_a_page_that_cannot_look_is_loaded_again_with_its_dish(training, watch):
    page = watch(training)
    page("live.stepOnce()")
    training.page.news_path.unlink()
    page.until("document.getElementById('reload').checkVisibility()")
    assert shown(page, "#ways") is None
    page("live.training.look = () => {}")  # the script is back for the page that is loaded again
    training.end_epoch()
    page.state = 2 * ONES
    page("window.isOld = true")
    page.at("#reload").click()
    page.until("!window.isOld && window.live !== undefined")
    assert page.t == 1
    assert torch.equal(page.state, 2 * ONES)
    page("live.stepOnce()")
    assert torch.equal(page.state, 2 * ONES + 0.25)
    page("location.reload()")
    page.until("window.live?.world.t === 0")


def test_another_training_in_the_same_place_asks_for_a_reload(training, watch, tmp_path):
    page = watch(training)
    Training(tmp_path, num_hidden_channels=5)
    page.until("document.getElementById('reload').checkVisibility()")
    assert shown(page, "#news") == "Another training has begun here."
    assert torch.equal(page.state, ONES)


@pytest.mark.parametrize("engine", ["javascript", pytest.param("webgl", marks=pytest.mark.slow)])
def test_at_the_end_an_open_page_gets_a_slider_over_the_epochs(engine, training, watch):
    page = watch(training, f"engine={engine}&paused")
    assert not page.at("#epochs").is_displayed()
    for _ in range(3):
        training.end_epoch()
    training.end(parameters=4)
    page.until("document.getElementById('epochs').checkVisibility()")
    assert not page.at("#training").is_displayed()
    assert page.announced == "The training has ended."
    assert page.at("#figures dl").text.splitlines() == ["parameters", "4"]
    training.end(parameters=4, error=0)
    page.until("document.querySelectorAll('#figures dt').length === 2")
    check_slider(page)
    assert page.complaints() == []


def check_slider(page):
    """Three epochs, of which the last is the best."""
    assert shown(page, "#epochs output") == "3 (best)"
    expected = ONES.clone()
    for keys, epoch, score in (((), 3, "0.333"), ((HOME,), 1, "1"), ((RIGHT,), 2, "0.5"), ((END,), 3, "0.333")):
        page.press("#epoch", *keys)
        assert shown(page, "#epochs output") == f"{epoch}{' (best)' if epoch == 3 else ''}"
        assert shown(page, "#epoch-score") == f"loss {score}"
        assert torch.equal(page.state, expected)
        page("live.stepOnce()")
        expected = expected + epoch / 4
        assert torch.equal(page.state, expected)
    page.press("#epoch", HOME)
    page.at("#regrow").click()
    assert page.t == 0
    seed = page.state
    assert seed.count_nonzero() == 13
    page("live.stepOnce()")
    assert_close(page.state, seed + 0.25)


def test_the_finished_page_is_one_file_that_asks_for_nothing(training, watch):
    for _ in range(3):
        training.end_epoch()
    training.end()
    training.page.news_path.unlink()
    page = watch(training)
    check_slider(page)
    assert [url for url in page.asked if url.startswith("file:")] == [training.page.path.as_uri()]
    assert "file:" not in page("return document.querySelector('meta[http-equiv]').content")
    assert page.complaints() == []


def test_a_turned_dish_stays_turned_with_other_weights(training, watch):
    page = watch(training)
    page("live.turn(90)")
    turned = page("return [...live.world.engine.cell.filtersTurned(Math.PI / 2)]")
    training.end_epoch()
    page.until("live.training.used === 1")
    factors = page(
        "return live.world.engine.depthwise.map((looks) => looks.map((look) => [look.filter, [...look.factors]]))"
    )
    filters = torch.tensor(turned).view(-1, 16, 9)
    for tap, looks in enumerate(factors):
        for number, values in looks:
            assert_close(torch.tensor(values, dtype=torch.float32), filters[number, :, tap])


@pytest.mark.parametrize("is_done", [False, True])
def test_nothing_is_wider_than_a_phone_and_every_control_of_a_training_has_a_name(is_done, training, watch):
    training.end_epoch()
    training.end_epoch()
    if is_done:
        training.end()
    page = watch(training, width=390)
    assert page.at("#epochs" if is_done else "#training").is_displayed()
    assert page.beyond_a_phone == []
    page.emulate()
    done, running = {"Epoch of the weights", "Grow from the seed"}, {"Newer weights", "Use", "Regrow", "Hold", "Epochs"}
    assert (done if is_done else running) <= {name for _, name in page.names}
