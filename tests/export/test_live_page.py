import json
import re

import pytest
import torch

from delira_nca.errors import ConfigError, ExportError
from delira_nca.export import LivePage
from delira_nca.models import BasicNCAModel, presets
from delira_nca.training import PyTorchNetworkTrainer

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
    ("options", "error", "message"),
    [
        ({"grid": (0, 6)}, ConfigError, "grid is"),
        ({"target": torch.zeros(3, 6, 6)}, ConfigError, r"target of this model is \(4, h, w\), not \(3, 6, 6\)"),
    ],
)
def test_options_that_do_not_fit_stop_the_training_before_it_begins(options, error, message, tmp_path):
    run = trainer(LivePage(tmp_path / "live.html", **options))
    with pytest.raises(error, match=message):
        run.train(1, [BATCH])
    assert run.global_iter_num == 0


def test_a_network_that_cannot_live_on_a_page_stops_the_training_before_it_begins(tmp_path):
    run = trainer(LivePage(tmp_path / "live.html"), dims=3)
    with pytest.raises(ExportError, match="3 spatial dimensions"):
        run.train(1, [BATCH])


def test_the_model_is_the_trainers():
    with pytest.raises(ConfigError, match="leave model out"):
        LivePage("live.html", model=None)
