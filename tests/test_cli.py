"""The command line: what it prints, and its exit status."""

import hashlib
import inspect
import json
import subprocess
import sys

import pytest

from delira_nca import __version__
from delira_nca.cli import main
from delira_nca.data_loading import sources
from delira_nca.experiment import GrowConfig, Run, sweep
from delira_nca.io import save_network
from delira_nca.models import BasicNCAModel, presets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grow", "--regime", "persistant"], "Did you mean 'persistent'?"),
        (["grow", "--steps", "96", "64"], "low < high, not (96, 64)"),
        (["grow", "--target", "nowhere.png"], "nowhere.png"),
        (["grow", "--device", "cuda:99", "--size", "8"], "cuda:99"),
        (["export", "nowhere", "--html"], "there is no run nowhere"),
        (["data", "check", "nuclei2d"], "Did you mean 'nuclei_2d'?"),
        (["data", "check", "nuclei_2d", "--root", "nowhere.whl"], "there is no 'nowhere.whl'"),
        (["data", "check", "nuclei_2d", "--root", "."], "pip download --no-deps stardist==0.9.2"),
        (["data", "check", "discs", "--root", "."], "'discs' is computed and needs no file; leave out --root"),
        (["data", "check", "nuclei_2d", "--root", "."], "is given as --root PATH"),
        (["grow", "--size", "12", "--out", "/proc/nope/x"], "/proc/nope"),
        (["grow", "--size", "12", "--out", ""], "expected a path, got ''"),
        (["grow", "--emoji", ""], "emoji"),
        (["grow", "--size", "20000"], "size must be a whole number from 1 to 2048, not 20000"),
    ],
)
def test_wrong_value_is_one_line_and_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("delira-nca: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grow", "--regim", "growing"], "unknown argument --regim. Did you mean --regime?"),
        (["grow", "--size", "large"], "invalid int value: 'large'"),
        (["grow", "--target", "a.png", "--emoji", "x"], "not allowed with argument"),
        (["gorw"], "invalid choice: 'gorw'"),
        (["gorw"], "Did you mean 'grow'?"),
        (["data", "chek", "digits"], "Did you mean 'check'?"),
        (["data", "check", "digits", "--rot", "x"], "unknown argument --rot. Did you mean --root?"),
        (["data", "check"], "required: NAME"),
        (["data"], "required: ACTION"),
        (["info", "--jsn"], "unknown argument --jsn. Did you mean --json?"),
        (["grow", "--lr", "1e-3"], "unknown argument --lr. Did you mean --learning-rate?"),
        (["grow", "--batchsize=4"], "unknown argument --batchsize. Did you mean --batch-size?"),
    ],
)
def test_wrong_argument_is_named_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_module_is_the_command_and_a_reader_may_close_its_output():
    done = subprocess.run([sys.executable, "-m", "delira_nca", "--version"], capture_output=True, text=True)
    assert done.stdout == f"delira-nca {__version__}\n"
    command = f"{sys.executable} -m delira_nca data list | head -c 1"
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=100).stderr == ""


def test_help_of_grow_names_every_option_and_the_default_regime(capsys):
    with pytest.raises(SystemExit):
        main(["grow", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for option in ("--target", "--emoji", "--size", "--steps", "--regime", "--epochs", "--out", "--seed", "--device"):
        assert option in printed
    assert "regenerating (the default)" in printed
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "option", "function", "default"),
    [
        ("grow", "--quality", GrowConfig.of_quality, "good"),
        ("grow", "--fire-rate", GrowConfig, 1),
        ("grow", "--regime", GrowConfig, "regenerating"),
        ("grow", "--state-noise", GrowConfig, 0.03),
        ("grow", "--save-seconds", GrowConfig, 30),
        ("train", "--root", Run.create, "runs"),
        ("train", "--resume", Run.create, "never"),
        ("validate", "--checkpoint", Run.validate, "best"),
        ("validate", "--part", Run.validate, "valid"),
        ("predict", "--part", Run.predict, "test"),
        ("sweep", "--root", sweep, "runs"),
        ("sweep", "--method", sweep, "grid"),
        ("sweep", "--sweep-seed", sweep, 0),
    ],
)
def test_help_tells_the_default_of_the_function(command, option, function, default, capsys):
    name = {"sweep-seed": "seed"}.get(option[2:], option[2:].replace("-", "_"))
    assert inspect.signature(function).parameters[name].default == default
    with pytest.raises(SystemExit):
        main([command, "--help"])
    _, _, text = " ".join(capsys.readouterr().out.partition("options:")[2].split()).partition(f" {option} ")
    told = text.partition(" --")[0]
    assert f"(default: {default})" in told or f"{default} (the default" in told


def test_data_list_has_a_line_for_every_source(capsys):
    assert main(["data", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "HERE", "FROM", "LICENCE", "WHAT"]
    assert [line.split()[0] for line in lines] == list(sources.available())
    by_name = {line.split()[0]: line for line in lines}
    assert by_name["digits"].split()[:4] == ["digits", "yes", "scikit-learn", "1.9.1"]
    assert "CC0-1.0" in by_name["grass"]
    for name, line in by_name.items():
        assert line.split()[1] == ("yes" if sources.is_here(name) else "no")
        assert line.index(sources.describe(name).summary) == head.index("WHAT")


def test_data_check_prints_what_was_verified(capsys):
    assert main(["data", "check", "digits"]) == 0
    printed = capsys.readouterr().out
    source = sources.describe("digits")
    assert f"sha256    {source.files[0].sha256}, as expected\n" in printed
    assert "array     data (1797, 1, 8, 8) uint8, from 0 to 16: ink, 0 to 16\n" in printed
    assert "array     label (1797,) int64, from 0 to 9: the digit\n" in printed
    assert f"licence   {source.licence}\n" in printed
    assert f"citation  {source.citation}\n" in printed


def test_data_check_takes_a_folder_and_refuses_another_content(capsys, tmp_path):
    (tmp_path / "brick.png").write_bytes(b"another picture")
    assert main(["data", "check", "brick", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sources.describe("brick").files[0].sha256 in error
    assert hashlib.sha256(b"another picture").hexdigest() in error
    (tmp_path / "brick.png").write_bytes(sources.check("brick").files[0].content)
    assert main(["data", "check", "brick", "--root", str(tmp_path)]) == 0
    assert f"in {tmp_path / 'brick.png'}" in capsys.readouterr().out


def test_info_prints_a_report_for_people_and_one_for_programs(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"versions            delira_nca {__version__}, python ")
    assert "\nback end reference  runs" in printed
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["delira_nca"] == __version__
    assert found["backends"]["reference"] is None


def test_export_writes_a_page_and_prints_its_path(capsys, tmp_path):
    save_network(BasicNCAModel(**presets.growing()), tmp_path / "fresh.pt")
    assert main(["export", str(tmp_path / "fresh.pt"), "--html", "--grid", "20", "30", "--title", "A <seed>"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "live.html")
    assert "<title>A &lt;seed&gt;</title>" in (tmp_path / "live.html").read_text()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "Permission denied: 'runs/x'"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("the device is gone"), "the device is gone"),
    ],
)
def test_an_error_of_the_system_is_one_line_and_status_2(error, message, capsys, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr("delira_nca.environment.info", fail)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == f"delira-nca: error: {message}\n"
