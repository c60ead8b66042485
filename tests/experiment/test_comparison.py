from pathlib import Path

import pytest

from delira_nca.errors import ConfigError, MissingFileError
from delira_nca.experiment import Comparison, Run, RunConfig, RunSummary, compare_runs, summarise
from delira_nca.io.run_lock import RunLock


@pytest.fixture
def runs(values, tmp_path):
    config = RunConfig.from_dict(values)
    made = [
        Run.create(config.replace({"name": f"lr{n}", "trainer.lr": lr}), tmp_path) for n, lr in enumerate((0.0, 1e-2))
    ]
    for run in made:
        run.train()
    made.append(Run.create(config.replace({"name": "begun", "seed": 3}), tmp_path))
    return made


def test_the_best_comes_first_and_what_differs_is_shown(runs, tmp_path):
    found = compare_runs(tmp_path)
    assert [run.name for run in found.runs] == ["lr1", "lr0", "begun"]
    assert found.rows()[0] == {
        "run": "lr1",
        "state": "done",
        "seed": 0,
        "trainer.lr": 0.01,
        "mse": found.best.best_score,
        "epoch": found.best.best_epoch,
    }
    lines = str(found).splitlines()
    assert lines[0].split() == ["run", "state", "seed", "trainer.lr", "mse", "epoch"]
    assert lines[3].split() == ["begun", "ended", "3", "0.001", "-", "-"]


def test_a_direction_is_that_of_the_score(runs, values, tmp_path):
    values["task"]["mode"] = "highest"
    for n, lr in enumerate((0.0, 1e-2)):
        changed = RunConfig.from_dict({**values, "name": f"lr{n}", "trainer": {"lr": lr}})
        changed.to_file(tmp_path / f"lr{n}" / "config.yaml")
    assert [run.name for run in compare_runs(tmp_path, ["lr0", "lr1"]).runs] == ["lr0", "lr1"]


def test_the_picture_is_drawn_of_every_run_with_the_score(runs, tmp_path):
    picture = compare_runs(tmp_path).save_plot(tmp_path / "curves.png", "val_mse")
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="no run has the score 'dice'"):
        compare_runs(tmp_path).save_plot(tmp_path / "no.png", "dice")


def test_a_run_that_is_held_is_running(runs):
    with RunLock(runs[2].stored.checkpoints):
        assert summarise(runs[2].folder).state == "running"
    assert summarise(runs[2].folder).state == "ended"


def test_what_cannot_be_compared_is_refused(runs, values, tmp_path):
    with pytest.raises(MissingFileError, match="Did you mean 'lr1'?"):
        compare_runs(tmp_path, ["lr2", "lr1"])
    with pytest.raises(MissingFileError, match="there is no run in"):
        compare_runs(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no run of the comparison has a score"):
        _ = compare_runs(tmp_path, ["begun"]).best
    Run.create(RunConfig.from_dict({**values, "name": "other", "task": {"score": None}}), tmp_path)
    with pytest.raises(ConfigError, match="different scores"):
        compare_runs(tmp_path)


def test_a_table_of_runs_of_different_kinds_shows_a_few_of_the_values_that_differ():
    values = {"deep.in.it": 1} | {f"value_{number}": number for number in range(19)}
    summaries = [RunSummary(name, Path(name), "done", values, 0.5, 1, {}, []) for name in "ab"]
    lines = str(Comparison(tuple(summaries), "mse")).splitlines()
    assert "value_5" in lines[0]
    assert "value_6" not in lines[0]
    assert lines[-1] == "14 more values of the configs differ, among them value_6"
