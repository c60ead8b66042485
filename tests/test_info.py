import importlib.metadata
import json
import subprocess
import sys

import pytest
import torch

import delira_nca
from delira_nca import environment
from delira_nca.environment import info
from delira_nca.rollout import BACKENDS, native_library, using_backend
from delira_nca.rollout.native import Native

pytestmark = pytest.mark.processor


def test_the_report_knows_what_it_runs_on():
    found = info()
    assert found.versions["torch"] == torch.__version__
    assert found.versions["delira_nca"] == delira_nca.__version__
    assert found.threads == torch.get_num_threads()
    assert list(found.backends) == list(BACKENDS)
    assert found.backends["reference"] is None
    assert found.instruction_sets_usable == native_library.available()
    assert set(found.instruction_sets_usable) <= set(found.instruction_sets_built)
    assert json.loads(json.dumps(found.to_dict()))["auto"] == found.auto


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_report_tells_the_memory():
    found = info()
    assert 0 < found.memory_available < found.memory_total
    assert f"{found.memory_available / 2**30:.1f} GiB of" in str(found)


def test_every_line_of_the_report_says_something():
    lines = str(info()).splitlines()
    names = [line.split("  ")[0].strip() for line in lines]
    assert len(set(names)) == len(names) <= 16
    starts = {len(line) - len(line[20:].lstrip()) for line in lines}
    assert starts == {20}  # all texts begin in one column
    assert all(len(line) > 20 for line in lines)


def test_auto_is_the_back_end_that_a_growing_model_gets():
    found = info()
    assert found.auto == next(name for name, reason in found.backends.items() if reason is None)
    assert f"back end {found.auto:9}  runs; 'auto' takes it for a growing model" in str(found)
    with using_backend("reference"):
        insisted = info()
    assert insisted.backend == "reference"
    assert insisted.auto == found.auto
    assert "runs; set_backend() insists on it" in str(insisted) or insisted.auto == "reference"


def test_a_back_end_that_does_not_run_says_why(monkeypatch):
    monkeypatch.setattr(Native, "unavailable", lambda self: "there is no compiler")
    found = info()
    assert found.backends["native"] == "there is no compiler"
    assert found.auto != "native"
    assert found.passed_over == {}
    assert "back end native     does not run: there is no compiler" in str(found)


def test_a_back_end_that_passes_says_why(monkeypatch):
    monkeypatch.setattr(Native, "unavailable", lambda self: None)
    monkeypatch.setattr(Native, "refusal", lambda self, job: "it is tired")
    found = info()
    assert found.passed_over["native"] == "it is tired"
    assert "back end native     runs; not for a growing model: it is tired" in str(found)


def test_huge_pages_are_told(monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert not info().huge_pages
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    assert info().huge_pages


def test_extras_are_those_of_the_package_and_not_of_its_developers(monkeypatch):
    declared = [
        "torch>=2.6",
        'matplotlib>=3.8; extra == "viz"',
        'nothing-like-it>=1; extra == "sweep"',
        'delira_nca[viz]; extra == "docs"',
        "ruff>=0.9; extra == 'dev'",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: declared)
    extras = info().extras
    assert list(extras) == ["matplotlib", "nothing-like-it"]
    assert extras["nothing-like-it"] is None
    assert "nothing-like-it not installed" in str(info())


def test_what_cannot_be_read_is_left_out(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "requires", not_installed)
    monkeypatch.setattr(environment, "available_memory", lambda: None)
    monkeypatch.setattr(native_library, "why_not", lambda: "it was not built")
    monkeypatch.setattr(environment, "_built", tuple)
    found = info()
    assert found.extras == {}
    assert found.instruction_set is None
    assert "cannot be read here: no training is refused" in str(found)
    assert "no instruction set: it was not built" in str(found)
    assert "extras" not in str(found)


def test_nobody_else_s_random_numbers_are_taken():
    before = torch.get_rng_state()
    info()
    assert torch.equal(torch.get_rng_state(), before)


def test_info_and_set_backend_are_at_the_top_and_cost_nothing_until_they_are_called():
    script = """
import sys, delira_nca
assert "torch" not in sys.modules
assert {"info", "set_backend", "machine", "environment"} <= set(dir(delira_nca))
import delira_nca.environment
assert callable(delira_nca.info)
delira_nca.set_backend("reference")
print(delira_nca.info().backend)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "reference\n"
