"""The page for those who come from NCALab: its scripts run as they stand, learn, and go on."""

import re
from pathlib import Path

import pytest
import torch

import delira_nca

PAGE = Path(delira_nca.__file__).parents[1] / "docs" / "ncalab.rst"


def scripts():
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", PAGE.read_text())
    assert len(blocks) == 3
    return ["\n".join(line[3:] for line in block.splitlines()) for block in blocks]


@pytest.mark.processor
def test_the_script_of_the_page_runs_learns_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        first, weights, differences = scripts()
        names = {"__name__": "script"}
        exec(compile(first, PAGE.name, "exec"), names)
        history = names["history"]
        assert history.best_accuracy > 0.5
        assert history.loss[-1] < history.loss[0]
        assert names["prediction"].output_channels.shape == (1, 1, 16, 16)
        assert re.fullmatch(r"Dice 0\.\d\d in epoch \d+\n", capsys.readouterr().out)
        exec(compile(weights + "\n" + differences, PAGE.name, "exec"), dict(names))
        names["trainer"].max_epochs = history.current_epoch + 1
        again = names["trainer"].train(names["DataLoader"](names["discs"](6), batch_size=6), resume="auto")
    assert again.current_epoch == history.current_epoch + 1
    assert (tmp_path / "runs" / "discs" / "best_model.pth").is_file()
