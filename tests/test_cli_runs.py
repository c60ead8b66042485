"""The commands on runs of a config: what they print, and what they leave."""

import inspect
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from delira_nca.cli import main
from delira_nca.experiment import Experiment, Run, RunConfig, RunResult
from delira_nca.models import BasicNCAModel, presets
from delira_nca.ncalab import BasicNCATrainer
from delira_nca.training.callbacks import LambdaCallback

CHANGES = {"training_timesteps": 2, "inference_timesteps": 2}
SAMPLES = {"class_path": "delira_nca.data_loading.growing_dataset", "init_args": {"size": 6, "padding": 1, "times": 4}}
VALUES = {
    "name": "flower",
    "model": {
        "class_path": "delira_nca.models.build_model",
        "init_args": {"preset": "growing", "changes": CHANGES},
    },
    "data": {"train": SAMPLES, "val_split": 0.5},
    "task": {"criterions": {"mse": "delira_nca.losses.mse"}, "score": "mse"},
    "num_epochs": 2,
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(VALUES))
    return "run.yaml"


@pytest.fixture
def out(capsys):
    """What was printed since the last call."""
    return lambda: capsys.readouterr().out


@pytest.fixture
def err(capsys):
    """What was printed as an error since the last call."""
    return lambda: capsys.readouterr().err


@pytest.fixture(scope="module")
def folder_of_runs(tmp_path_factory):
    """Folder of the trained runs "flower" and "other"."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "run.yaml").write_text(yaml.safe_dump(VALUES))
    for name in ("flower", "other"):
        options = ["--quiet", f"--name={name}", "--root", str(folder / "runs")]
        assert main(["train", str(folder / "run.yaml"), *options]) == 0
    return folder


@pytest.fixture
def trained(folder_of_runs, file, tmp_path):
    """Working directory with runs that are trained."""
    shutil.copytree(folder_of_runs / "runs", tmp_path / "runs")
    return tmp_path / "runs"


def test_a_run_is_trained_listed_shown_validated_predicted_and_compared(file, capsys):
    assert main(["train", file, "--quiet", "--trainer.lr", "1e-2"]) == 0
    out = capsys.readouterr().out
    assert "val_mse: " in out
    assert out.splitlines()[-1] == "runs/flower"
    assert Run.open("runs/flower").config.trainer["lr"] == 0.01
    assert main(["train", file, "--quiet", "--name=other"]) == 0
    capsys.readouterr()
    assert main(["list"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["flower", "done", "2"],
        ["other", "done", "2"],
    ]
    assert main(["show", "runs/flower"]) == 0
    shown = capsys.readouterr().out
    assert "lr: 0.01" in shown
    assert "state: done" in shown
    assert "checkpoint_best.safetensors" in shown
    assert main(["validate", "runs/flower"]) == 0
    assert json.loads(capsys.readouterr().out)["mse"] > 0
    assert main(["predict", "runs/flower", "--part", "valid", "--out", "out.npy"]) == 0
    assert np.load("out.npy").shape == (2, 4, 8, 8)
    capsys.readouterr()
    assert main(["compare", "runs/flower", "runs/other", "--plot", "curves.png"]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[0].split() == ["run", "state", "trainer.lr", "mse", "epoch"]
    assert main(["compare", "runs"]) == 0
    assert capsys.readouterr().out == "".join(table.splitlines(keepends=True)[:-1])


def test_a_run_is_gone_on_with(file, out):
    assert main(["train", file, "--quiet", "--num_epochs", "1"]) == 0
    assert main(["train", file, "--quiet", "--resume", "auto"]) == 0
    assert Run.open("runs/flower").config.num_epochs == 2
    out()
    assert main(["resume", "runs/flower", "--quiet"]) == 0
    assert "epoch 2/2" not in out()
    assert main(["resume", "runs/flower"]) == 0
    assert "resume after epoch 2" in out()


@pytest.mark.timeout(120)
def test_a_sweep_runs_in_processes_with_single_values_in_all_runs_and_prints_the_best_first(file, out, tmp_path):
    options = ["--num_epochs", "1", "--launcher", "pool", "--num-workers", "1", "--plot", "sweep.png"]
    assert main(["sweep", file, "--trainer.lr", "[0.0, 1e-2]", *options]) == 0
    header, best, other, picture = out().splitlines()
    assert header.split() == ["run", "state", "trainer.lr", "mse", "epoch"]
    assert best.split()[:3] == ["flower-001", "done", "0.01"]
    assert other.split()[:3] == ["flower-000", "done", "0"]
    assert (tmp_path / picture).is_file()
    assert {Run.open(f"runs/flower-00{n}").config.num_epochs for n in range(2)} == {1}


def test_the_whole_config_is_printed_and_nothing_done(file, out, tmp_path):
    assert main(["train", file, "--print_config", "--data.batch_size", "3"]) == 0
    printed = yaml.safe_load(out())
    assert printed["data"]["batch_size"] == 3
    assert printed["trainer"]["optimizer_cls"] == "torch.optim.Adam"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.yaml"], "nowhere.yaml"),
        (["train", "run.yaml", "--trainer.lrr", "3"], "Did you mean 'lr'?"),
        (["train", "run.yaml", "--trainer.lr", "fast"], "float is expected, not fast"),
        (["train", "run.yaml", "--lr", "3"], "Did you mean 'trainer.lr'?"),
        (["train", "run.yaml", "--batchsize", "3"], "Did you mean 'data.batch_size'?"),
        (["train", "run.yaml", "--resum", "auto"], "unknown argument --resum. Did you mean --resume?"),
        (["train", "run.yaml", "--name", "x" * 300], "at most 200 bytes"),
        (["train", "run.yaml", "--root", "run.yaml"], "run.yaml' cannot be a folder"),
        (["train", "run.yaml", "--root", "dangling"], "dangling' cannot be a folder"),
        (["train", "."], "Is a directory"),
        (["list"], "there is no folder 'runs'"),
        (["list", "run.yaml"], "there is no folder 'run.yaml'"),
        (["sweep", "run.yaml", "--num_epochs", "1"], "a sweep needs something to try"),
        (["train", "run.yaml", "--resume", "atuo"], "Did you mean 'auto'?"),
        (["train", "run.yaml", "more"], "not 'more'"),
        (["sweep", "run.yaml", "--trainer.lrr", "[1, 2]"], "Did you mean 'lr'?"),
        (["sweep", "run.yaml", "--seed", "[1]", "--launcher", "rai"], "Did you mean 'ray'?"),
        (["sweep", "run.yaml", "--seed", "[1]", "--num-workers", "2"], "give --launcher pool"),
        (["show", "nowhere"], "there is no such folder"),
        (["validate", "runs"], "there is no run in"),
        (["compare", "runs"], "there is no run in"),
        (["resume", "nowhere"], "there is no"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_done(arguments, message, file, err, tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert main(arguments) == 2
    assert message in err()
    assert not (tmp_path / "runs").exists()


def test_files_and_checkpoints_that_are_not_of_the_run_are_refused(trained, file, err, tmp_path):
    foreign = trained / "other" / "checkpoints" / "checkpoint_epoch_2.safetensors"
    before = (trained / "flower" / "config.yaml").read_text()
    predict = ["predict", "runs/flower", "--part", "valid", "--out"]
    export = ["export", "runs/flower", "--html", "--out"]
    for arguments, message in (
        ([*predict, "seg.png"], ".npy or .npz file, not to 'seg.png'"),
        ([*predict, f"{file}/out.npy"], f"{file}' cannot be a folder"),
        (["validate", "runs/flower", "--checkpoint", str(foreign)], "there is no checkpoint"),
        ([*export, "runs/flower/config.yaml"], "config.yaml"),
        ([*export, "page.pdf"], "page.pdf"),
        (["export", "runs", "--html", "--out", "page.html"], "contains several runs; export one of them: "),
    ):
        assert main(arguments) == 2, arguments
        error = err()
        assert message in error, arguments
        assert error.count("\n") == 1, arguments
    assert (trained / "flower" / "config.yaml").read_text() == before
    assert not (tmp_path / "seg.png").exists()
    assert main([*export, "page.html"]) == 0


def test_ctrl_c_says_how_to_resume(file, capsys, monkeypatch):
    def interrupt(run, **options):
        raise KeyboardInterrupt("'delira-nca resume runs/flower' resumes the run")

    monkeypatch.setattr(Run, "train", interrupt)
    assert main(["train", file, "--quiet"]) == 130
    message = "delira-nca: interrupted; 'delira-nca resume runs/flower' resumes the run\n"
    assert capsys.readouterr().err == message


def test_a_corrected_command_trains_under_the_same_name_and_says_why_it_stops_early(file, out):
    stopping = "[{class_path: delira_nca.training.callbacks.TimeLimit, init_args: {limit: 0.001}}]"
    assert main(["train", file, "--quiet", "--task.score", "nothing"]) == 2
    assert main(["train", file, "--quiet", "--data.val_split", "9"]) == 2
    assert main(["train", file, "--quiet", "--num_epochs", "9", "--callbacks", stopping]) == 0
    printed = out()
    assert printed.splitlines()[-1] == "runs/flower"
    assert "stopped early: " in printed


def test_a_sweep_whose_runs_fail_has_status_2(file, capsys):
    assert main(["sweep", file, "--num_epochs", "1", "--data.num_splits", "[0, 50]"]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2].split()[:3] == ["flower-001", "ended", "50"]
    assert printed.err.splitlines()[-1] == "delira-nca: error: 1 of 2 runs failed: flower-001"


def test_a_run_is_listed_shown_and_compared_without_executing_anything_of_it(trained, out, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('the trap was sprung')")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = trained / "flower" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    values["callbacks"] = [{"class_path": "trap.Callback", "init_args": {}}]
    config.write_text(yaml.safe_dump(values))
    for command in (["list"], ["show", "runs/flower"], ["compare", "runs"]):
        assert main(command) == 0
    assert "trap.Callback" in out()
    with pytest.raises(SystemExit, match="the trap was sprung"):
        main(["validate", "runs/flower"])


def samples():
    """Data that have a name."""
    generator = np.random.default_rng(0)
    images = generator.random((8, 1, 8, 8), dtype=np.float32)
    return {"data": images, "label": (images > 0.5).astype(np.float32)}


def test_runs_and_folds_of_an_experiment_are_runs_like_any_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_samples.py").write_text("import numpy as np\n" + inspect.getsource(samples))
    from my_samples import samples as named

    model = {"num_image_channels": 1, "num_hidden_channels": 2, "num_output_channels": 1, "hidden_size": 4}
    model |= {"training_timesteps": 2, "inference_timesteps": 2}
    training = {"criterions": {"bce": "torch.nn.functional.binary_cross_entropy_with_logits"}}
    training |= {"optimizer_params": {"lr": 0.01}, "num_epochs": 2, "batch_size": 4}
    experiment = Experiment({"model": model, "training": training}, BasicNCAModel, "tiny", "runs", "bce")
    experiment.run(named, named)
    experiment.kfold(named, {"bce": training["criterions"]["bce"]}, num_splits=2, val_split=0.5)
    experiment.run(samples(), samples())
    assert main(["list"]) == 0
    listed = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]]
    names = ["tiny/kfold/fold_0", "tiny/kfold/fold_1", "tiny/run", "tiny/run-2"]
    assert listed == [[name, "done", "2"] for name in names]
    for name in names:
        assert main(["show", f"runs/{name}"]) == 0
        assert "val_bce" in capsys.readouterr().out
    for name in names[:3]:
        assert main(["validate", f"runs/{name}"]) == 0
        best = RunResult.load(f"runs/{name}").best_score
        assert json.loads(capsys.readouterr().out)["bce"] == pytest.approx(best, rel=1e-5)
        assert main(["predict", f"runs/{name}", "--part", "valid", "--out", "out.npy"]) == 0
        assert main(["resume", f"runs/{name}", "--quiet"]) == 0
        assert f"runs/{name}" in capsys.readouterr().out
    assert main(["compare", "runs/tiny"]) == 0
    assert "run-2" in capsys.readouterr().out
    assert main(["validate", "runs/tiny/run-2"]) == 2
    assert "were a dict in the memory of the process" in capsys.readouterr().err


def test_a_run_of_the_ncalab_face_is_listed_shown_compared_and_exported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = BasicNCAModel(**presets.growing(training_timesteps=2, inference_timesteps=2))
    loader = [(torch.rand(2, 16, 8, 8), torch.rand(2, 4, 8, 8))] * 2
    for name in ("a", "b"):
        BasicNCATrainer(model, tmp_path / "runs" / name, max_epochs=2).train(loader, loader)
    assert main(["list"]) == 0
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["a", "done", "2"],
        ["b", "done", "2"],
    ]
    assert main(["show", "runs/a"]) == 0
    shown = capsys.readouterr().out
    assert '"optimizer": "adam"' in shown
    assert "checkpoint_epoch_2.safetensors" in shown
    assert main(["compare", "runs"]) == 0
    assert "loss" in capsys.readouterr().out.splitlines()[0]
    assert main(["export", "runs/a", "--html", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert main(["validate", "runs/a"]) == 2
    assert "resumed in Python only" in capsys.readouterr().err


def test_a_run_is_told_to_stop_and_resumed(file, capsys, monkeypatch):
    run = Run.create(RunConfig.from_file(file))
    assert main(["tell", "runs/flower", "stop"]) == 2
    assert "no process is training the run in " in capsys.readouterr().err
    monkeypatch.setattr("delira_nca.cli.runs._REPLY_SECONDS", 0.0)

    def tell(trainer, curr_epoch):
        if curr_epoch == 1:
            assert main(["tell", "runs/flower", "set", "model.fire_rate", "7"]) == 0
            assert main(["tell", "runs/flower", "set", "model.fire_rate", "0.75"]) == 0
            assert main(["tell", "runs/flower", "stop"]) == 0

    result = run.train(callbacks=[LambdaCallback(at_epoch_begin=tell)])
    assert capsys.readouterr().out == "no reply yet; a later one is appended to runs/flower/console.log\n" * 3
    assert result.stop_reason == "stopped by the console"
    replies = (run.folder / "console.log").read_text().splitlines()
    assert "step 1, set model.fire_rate 7: error: model.fire_rate cannot be 7: fire_rate must be" in replies[0]
    assert [reply.partition(": ")[2] for reply in replies[1:]] == [
        "model.fire_rate = 0.75 (was 0.5) from step 1 on",
        "the training stops",
    ]
    assert json.loads((run.folder / "console.jsonl").read_text())["path"] == "model.fire_rate"
    assert main(["resume", "runs/flower", "--quiet"]) == 0
    assert Run.open("runs/flower").stored.checkpoint("latest").stem == "checkpoint_epoch_2"
    assert "stopped early" not in capsys.readouterr().out
    assert main(["tell", "runs/flower", "stpo"]) == 2
    assert "unknown command 'stpo'. Known: " in capsys.readouterr().err
    assert main(["tell", "runs/nothing", "stop"]) == 2


def test_a_bad_value_is_answered_and_the_run_goes_on(file, monkeypatch):
    run = Run.create(RunConfig.from_file(file))
    monkeypatch.setattr("delira_nca.cli.runs._REPLY_SECONDS", 0.0)
    bad = ["model.fire_rate (0.1,0.2)", "model.training_timesteps 0", "model.training_timesteps (3,2)"]
    bad += ["model.training_timesteps 2.5", "model.inference_timesteps -1", "model.hidden_size 4"]
    bad += ["model.num_hidden_channels 9", "optimizer.lr (1,2)", "optimizer.lr -1", "optimizer.lr True"]
    bad += ["optimizer.betas 3", "optimizer.betas (2,3)", "optimizer.betas (0.9,)", "optimizer.weight_decay -5"]

    def tell(trainer, curr_epoch):
        for setting in bad if curr_epoch == 1 else ():
            assert main(["tell", "runs/flower", "set", *setting.split()]) == 0

    result = run.train(callbacks=[LambdaCallback(at_epoch_begin=tell)])
    replies = (run.folder / "console.log").read_text().splitlines()
    assert len(replies) == len(bad)
    assert all(": error: " in reply for reply in replies), replies
    assert not (run.folder / "console.jsonl").exists()
    assert result.stop_reason is None


@pytest.mark.slow
def test_recorded_changes_that_are_invalid_are_skipped(file, err, caplog):
    run = Run.create(RunConfig.from_file(file))
    run.train(callbacks=[LambdaCallback(at_epoch_end=lambda trainer, **event: trainer.stop("enough"))])
    state = {"run": json.loads((run.folder / "checkpoints" / "manifest.json").read_text())["checkpoints"][0]["run_id"]}
    entry = {**state, "step": 1, "path": "model.fire_rate", "value": 7}
    (run.folder / "console.jsonl").write_text(json.dumps(entry) + "\n")
    assert main(["resume", "runs/flower", "--quiet"]) == 0
    assert "the recorded change of step 1 is skipped: model.fire_rate cannot be 7: fire_rate must be" in caplog.text


def test_commands_from_before_a_training_are_dropped(file, caplog):
    run = Run.create(RunConfig.from_file(file))
    (run.folder / "control.txt").write_text("stop\n")
    assert run.train().stop_reason is None
    assert "commands from before the training are dropped: stop" in caplog.text


def slow(*values):
    """Parameters of a sibling of a quick test."""
    return pytest.param(*values, marks=pytest.mark.slow)


def test_commands_that_cannot_work_are_refused_by_tell_and_only_folders_of_runs_are_told(file, err, tmp_path):
    Run.create(RunConfig.from_file(file))
    (tmp_path / "empty").mkdir()
    for command in ("lr", "lr nan", "lr fast", "set model.fire_rate", "stpo"):
        assert main(["tell", "runs/flower", *command.split()]) == 2, command
        assert "Traceback" not in err(), command
    for folder in ("empty", "."):
        assert main(["tell", folder, "save"]) == 2
    assert not list(tmp_path.rglob("control.txt"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trainer.lr_scheduler_params", "{gamma: 0.1}"], "no effect without trainer.lr_scheduler_cls"),
        slow(["--data.fold", "3"], "data.fold=3 has no effect without data.num_splits"),
        slow(["--trainer.optimizer_params", "{lr: 1}"], "give trainer.lr instead"),
        slow(["--validation_interval", "9"], "validation_interval=9 is more than num_epochs=2"),
        slow(["--trainer.lr", "1e400"], "finite"),
        slow(["--trainer.device", "mps"], "mps"),
        slow(["--model.class_path", ""], "model.class_path is empty"),
        (["--model.changes", "{training_timesteps: 0}"], "training_timesteps of at least 1"),
        (["--data.train.init_args.times", "-1"], "times"),
    ],
)
def test_settings_that_are_ignored_or_cannot_work_are_refused(file, err, tmp_path, options, words):
    assert main(["train", file, "--quiet", *options]) == 2
    error = err()
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs" / "flower").exists()


def test_exceptions_of_classes_of_a_config_are_named(file, tmp_path, err, monkeypatch):
    (tmp_path / "mine_data.py").write_text(
        "from delira_nca.data_loading import growing_dataset, DictDataset\n"
        "def samples(n: int = 3) -> DictDataset:\n    raise ValueError('negative dimensions')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    options = ["--data.train", "{class_path: mine_data.samples, init_args: {n: -1}}"]
    assert main(["train", file, "--quiet", *options]) == 2
    assert "mine_data.samples(n=-1) failed: ValueError: negative dimensions" in err()


@pytest.mark.slow
def test_sweeps_check_their_options_before_the_first_run(file, tmp_path, err):
    sweep = ["sweep", file, "--root", "swept"]
    for options in (
        ["--name", "[a,b]"],
        ["--trainer.lr", "[0.1]", "--plot", "p.xyz"],
        ["--trainer.lr", "{low: 1, high: 3, integer: true}", "--method", "random", "--num-trials", "1"],
    ):
        assert main([*sweep, *options]) == 2
        assert "Traceback" not in err()
    assert not list(tmp_path.glob("swept/*"))
    exponents = "{low: 1e-4, high: 1e-2, log: true}"
    assert main([*sweep, "--trainer.lr", exponents, "--method", "random", "--num-trials", "1"]) == 0
    assert main([*sweep, "--num_iterations", "[2]", "--num_epochs", "null", "--name", "by"]) == 0
