import json
import re

import pytest
import torch

from delira_nca.errors import ConfigError, ExportError, UnknownKeywordError
from delira_nca.export import LivePage
from delira_nca.models import BasicNCAModel, presets
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.callbacks import WeightAverage

BATCH = {"data": torch.ones(1, 16, 6, 6), "label": torch.zeros(1, 4, 6, 6)}


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', page.read_text(), re.S)[1])


def trainer(page, **arguments):
    network = BasicNCAModel(**presets.growing(training_timesteps=3, **arguments))
    return PyTorchNetworkTrainer(network, None, optimizer_params={"lr": 0.1}, callbacks=[page])


def weights_on(page):
    return data_of(page)["cell"]["layers"][-1]["weight"]["data"]


def test_the_page_shows_the_best_network_when_the_training_ends(tmp_path):
    page = LivePage(
        tmp_path / "live.html", title="six", grid=(6, 6), figures=lambda trainer: {"epochs": len(trainer.history)}
    )
    run = trainer(page)
    run.train(3, [BATCH], [BATCH], "mse", "lowest")
    data = data_of(tmp_path / "live.html")
    assert data["title"] == "six"
    assert data["figures"] == [["epochs", "3"]]
    run.network.load_state_dict(run.best_network().state_dict())
    LivePage(tmp_path / "best.html", title="six", grid=(6, 6)).at_training_end(run)
    assert weights_on(tmp_path / "live.html") == weights_on(tmp_path / "best.html")


def test_an_interrupted_training_leaves_a_page_too(tmp_path):
    class Interrupting(LivePage):
        def at_epoch_end(self, trainer, **event):
            raise KeyboardInterrupt

    run = trainer(Interrupting(tmp_path / "live.html", grid=(6, 6)))
    with pytest.raises(KeyboardInterrupt):
        run.train(3, [BATCH])
    untrained = LivePage(tmp_path / "untrained.html", grid=(6, 6))
    untrained.at_training_begin(trainer(untrained), num_epochs=3)
    assert weights_on(tmp_path / "live.html") != weights_on(tmp_path / "untrained.html")


@pytest.mark.parametrize(
    ("options", "arguments", "error", "message"),
    [
        ({"grid": (0, 6)}, {}, ConfigError, "grid must be"),
        ({"target": torch.zeros(3, 6, 6)}, {}, ConfigError, r"target of this model is \(4, h, w\), not \(3, 6, 6\)"),
        ({}, {"dims": 3}, ExportError, "3 spatial dimensions"),
    ],
)
def test_what_does_not_fit_stops_the_training_before_it_begins(options, arguments, error, message, tmp_path):
    run = trainer(LivePage(tmp_path / "live.html", **options), **arguments)
    with pytest.raises(error, match=message):
        run.train(1, [BATCH])
    assert run.global_iter_num == 0
    with pytest.raises(UnknownKeywordError, match="Did you mean 'title'"):
        LivePage(tmp_path / "live.html", titel="x")
    with pytest.raises(ConfigError, match="leave model out"):
        LivePage("live.html", model=None)


def news_beside(page):
    """What the script beside a page says."""
    return json.loads(re.fullmatch(r".*?hear\((.*)\);\n", page.with_suffix(".weights.js").read_text(), re.S)[1])


class Watching(LivePage):
    """Keeps what is on the disk after each epoch."""

    def at_training_begin(self, trainer, **event):
        super().at_training_begin(trainer, **event)
        self.seen = [(data_of(self.path), news_beside(self.path))]

    def at_epoch_end(self, trainer, **event):
        super().at_epoch_end(trainer, **event)
        self.seen.append((data_of(self.path), news_beside(self.path)))


def test_page_and_news_are_renewed_while_it_trains(tmp_path):
    page = Watching(tmp_path / "live.html", every=0.0, share=1.0, grid=(6, 6), keys={"val_mse": "error"})
    run = trainer(page)
    run.train(3, [BATCH], [BATCH], "mse", "lowest")
    for epoch, (data, news) in enumerate(page.seen):
        assert data["training"]["epoch"] == news["epoch"] == epoch
        assert news["numEpochs"] == 3
        assert data["training"]["news"] == "live.weights.js"
        assert news["run"] == data["run"] == run.run_id
        assert news["cell"] == data["cell"]
        assert not news.get("isDone")
        assert news["score"].startswith("error ") if epoch else news["score"] == ""
    weights = [news["cell"]["layers"][-1]["weight"]["data"] for _, news in page.seen]
    assert len(set(weights)) == 4
    assert data_of(page.path)["training"] is None
    assert news_beside(page.path)["isDone"]


def test_a_page_is_renewed_no_more_often_than_asked_for_and_figures_that_are_known_late_are_written_over(tmp_path):
    page = Watching(tmp_path / "live.html", every=3600.0, grid=(6, 6))
    run = trainer(page)
    run.train(3, [BATCH])
    assert [news["epoch"] for _, news in page.seen] == [0, 0, 0, 0]
    page.finish(run, {"error": 1})
    assert data_of(page.path)["figures"] == news_beside(page.path)["figures"] == [["error", "1"]]
    assert len(data_of(page.path)["epochs"]) == 3


def test_the_weights_are_those_that_are_validated(tmp_path):
    average, page = WeightAverage(0.9), Watching(tmp_path / "live.html", every=0.0, share=1.0, grid=(6, 6))
    network = BasicNCAModel(**presets.growing(training_timesteps=3))
    run = PyTorchNetworkTrainer(network, None, optimizer_params={"lr": 0.1}, callbacks=[average, page])
    run.train(2, [BATCH, BATCH], [BATCH], "mse", "lowest")
    averaged = LivePage(tmp_path / "averaged.html", grid=(6, 6))
    run.network.load_state_dict(average.network.state_dict())
    averaged.at_training_begin(run, num_epochs=2)
    last = page.seen[-1][1]["cell"]["layers"][-1]["weight"]["data"]
    assert last == weights_on(tmp_path / "averaged.html")


def test_the_slider_has_the_epochs_and_the_best_among_them(tmp_path):
    page = LivePage(tmp_path / "live.html", snapshots=4, grid=(6, 6))
    run = trainer(page)
    run.train(9, [BATCH], [BATCH], "mse", "lowest")
    epochs = data_of(page.path)["epochs"]
    numbers = [kept["epoch"] for kept in epochs]
    assert numbers == sorted(set(numbers))
    assert {1, 9, run.best.epoch} <= set(numbers)
    assert [kept["epoch"] for kept in epochs if kept["cell"] is None] == [run.best.epoch]
    assert all(kept["score"].startswith("val_mse ") for kept in epochs)
    assert all(kept["cell"] is None or kept["cell"]["layers"][0]["weight"]["type"] == "float16" for kept in epochs)
    page = LivePage(tmp_path / "live.html", snapshots=0, grid=(6, 6))
    trainer(page).train(3, [BATCH])
    assert data_of(page.path)["epochs"] == []


def test_a_page_changes_no_bit_of_a_training_nor_of_its_resume(tmp_path, assert_same, randomise):
    def run_of(name, num_epochs, is_watched=True, **options):
        settings = {"every": 0.0, "share": 1.0, "grid": (6, 6), "snapshots": 3}
        pages = [LivePage(tmp_path / f"{name}.html", **settings)] * is_watched
        network = randomise(BasicNCAModel(**presets.growing(training_timesteps=3)), 0.1)
        torch.manual_seed(1)
        run = PyTorchNetworkTrainer(network, tmp_path / name, callbacks=pages)
        run.train(num_epochs, [BATCH], **options)
        return dict(run.network.state_dict()), torch.get_rng_state()

    plain = run_of("plain", 6, is_watched=False)
    assert_same(run_of("watched", 6), plain)
    run_of("resumed", 4)
    assert_same(run_of("resumed", 6, resume="auto")[0], plain[0])
    assert data_of(tmp_path / "resumed.html")["epochs"] == data_of(tmp_path / "watched.html")["epochs"]


def test_a_full_disk_does_not_end_a_training(tmp_path, caplog):
    class Full(LivePage):
        def at_training_begin(self, trainer, **event):
            super().at_training_begin(trainer, **event)
            self.path = tmp_path / "file" / "live.html"
            (tmp_path / "file").write_text("not a folder")

        def at_training_end(self, trainer, **event):
            pass

    run = trainer(Full(tmp_path / "live.html", every=0.0, share=1.0, grid=(6, 6)))
    run.train(1, [BATCH])
    assert len(run.history) == 1
    assert "the live page was not renewed after epoch 1: cannot write" in caplog.text
