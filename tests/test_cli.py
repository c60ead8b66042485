"""The command line: what it prints, and its exit status."""

import subprocess
import sys

import pytest

from delira_nca import __version__
from delira_nca.cli import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grow", "--regime", "persistant"], "Did you mean 'persistent'?"),
        (["grow", "--steps", "96", "64"], "low < high, not (96, 64)"),
        (["grow", "--target", "nowhere.png"], "nowhere.png"),
        (["grow", "--device", "cuda:99", "--size", "8"], "cuda:99"),
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
    ],
)
def test_wrong_argument_is_named_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "delira_nca", "--version"], capture_output=True, text=True)
    assert done.stdout == f"delira-nca {__version__}\n"


def test_help_tells_every_default(capsys):
    with pytest.raises(SystemExit):
        main(["grow", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for option in ("--target", "--emoji", "--size", "--steps", "--regime", "--epochs", "--out", "--seed", "--device"):
        assert option in printed
    assert "(default: persistent)" in printed
