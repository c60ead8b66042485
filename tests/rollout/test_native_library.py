"""Which builds of the library are found, and what happens where there is none, another one, or no compiler."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from delira_nca.errors import ConfigError, UnknownNameError
from delira_nca.models import BasicNCAModel
from delira_nca.rollout import current_backend, native_library, rollout, set_backend
from delira_nca.rollout.backends import choose
from delira_nca.rollout.job import Job
from delira_nca.rollout.native_library import ENVIRONMENT_VARIABLE, INSTRUCTION_SETS, NativeLibrary

ROOT = Path(__file__).parents[2]
needs_a_library = pytest.mark.skipif(
    native_library.why_not() is not None, reason=f"needs the native library: {native_library.why_not()}"
)


def forget():
    for function in (native_library._load, native_library.available, native_library.why_not):
        function.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is looked for."""
    forget()
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    yield tmp_path
    monkeypatch.undo()
    forget()


def roll_out_on_auto():
    model, x = BasicNCAModel(), torch.rand(1, 16, 6, 6)
    rollout(x, model, 2, seed=1).sum().backward()
    return choose(Job(x, model, 2, (2,))).name


# What is found ------------------------------------------------------------------------------------------------------


@needs_a_library
def test_the_best_build_of_this_cpu_is_taken_and_any_other_can_be_insisted_on():
    names = native_library.available()
    assert names[0] == "portable"
    assert [name for name in INSTRUCTION_SETS if name in names] == list(names)
    assert native_library.load().name == names[-1]
    try:
        for name in names:
            native_library.use_instruction_set(name)
            assert native_library.load().name == name
            assert roll_out_on_auto() == "native"
    finally:
        native_library.use_instruction_set(None)
    assert native_library.load().name == names[-1]


def test_instruction_sets_that_are_unknown_or_not_of_this_cpu_are_refused(monkeypatch, refuses):
    refuses(UnknownNameError, "Did you mean 'avx512'", native_library.use_instruction_set, "avx51")
    monkeypatch.setattr(native_library, "available", lambda: ("portable",))
    with pytest.raises(ConfigError, match=r"'avx512' was not built or is not in this CPU: there are \('portable',\)"):
        native_library.use_instruction_set("avx512")


@pytest.fixture
def cpu_of_level(monkeypatch):
    """Pretend that all libraries were built, and that the CPU is of a level."""

    def pretend(level):
        build = SimpleNamespace(cpu_level=level)
        forget()
        monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
        monkeypatch.setattr(native_library, "_load", cache(lambda name: build))

    yield pretend
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(("level", "names"), [(0, 1), (1, 2), (2, 3), (3, 4)])
def test_a_cpu_takes_no_build_above_its_level(level, names, cpu_of_level):
    cpu_of_level(level)
    assert native_library.available() == INSTRUCTION_SETS[:names]


@pytest.mark.parametrize(("highest", "number"), [("portable", 1), ("avx2", 2), ("avx512", 3), ("", 3)])
def test_the_environment_names_the_highest_instruction_set(highest, number, cpu_of_level, monkeypatch):
    cpu_of_level(2)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, highest)
    assert native_library.available() == INSTRUCTION_SETS[:number]
    assert native_library.why_not() is None


def test_the_environment_hides_the_library(cpu_of_level, monkeypatch, refuses):
    cpu_of_level(2)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "none")
    assert native_library.available() == ()
    refuses(ConfigError, "'native' cannot run here: DELIRA_NCA_INSTRUCTION_SET=none hides it", set_backend, "native")
    assert roll_out_on_auto() != "native"


def test_an_instruction_set_in_the_environment_that_cannot_be_had_is_refused(cpu_of_level, monkeypatch, refuses):
    cpu_of_level(2)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "avx512_bf16")
    refuses(ConfigError, r"SET=avx512_bf16 was not built or is not in this CPU: there are", native_library.available)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "avx51")
    with pytest.raises(UnknownNameError, match="value of DELIRA_NCA_INSTRUCTION_SET 'avx51'.*Did you mean 'avx512'"):
        native_library.available()


@needs_a_library
def test_a_build_that_failed_is_left_out(folder):
    source = Path(sys.modules["delira_nca.rollout.native"].__file__).parent
    shutil.copy(source / "_native_portable.so", folder)
    assert native_library.available() == ("portable",)
    assert native_library.load().name == "portable"
    assert roll_out_on_auto() == "native"


# What is not --------------------------------------------------------------------------------------------------------


def test_without_a_library_auto_goes_around_it_and_native_says_why(folder, refuses):
    assert native_library.available() == ()
    with pytest.raises(ConfigError, match="'native' cannot run here: it was not built .* where a C\\+\\+ compiler is"):
        set_backend("native")
    assert current_backend() == "auto"
    assert roll_out_on_auto() != "native"
    refuses(ConfigError, "cannot run here: it was not built", native_library.load)


@pytest.mark.parametrize(("other", "named"), [(None, "_native_portable"), ("_ctypes", "nca_")])
def test_a_file_that_is_no_library_or_another_one_is_told_and_gone_around(folder, refuses, other, named):
    content = b"not a library" if other is None else Path(sys.modules[other].__file__).read_bytes()
    (folder / "_native_portable.so").write_bytes(content)
    refuses(ConfigError, f"cannot run here: its library cannot be loaded: .*{named}", set_backend, "native")
    assert roll_out_on_auto() != "native"


@needs_a_library
def test_a_library_of_another_version_of_the_package_is_not_called(monkeypatch, refuses):
    path = native_library.load().path
    monkeypatch.setattr(native_library, "_ABI", native_library._ABI + 1)
    refuses(OSError, "was built for another version of the package: install it again", NativeLibrary, path, "portable")


@needs_a_library
def test_no_memory_is_an_error_of_python(refuses):
    refuses(MemoryError, "give a smaller memory_budget or fewer steps", NativeLibrary._check, 1)
    refuses(RuntimeError, "the native roll-out failed", NativeLibrary._check, 2)


# The interface ------------------------------------------------------------------------------------------------------

C_TYPES = {"int64_t": ctypes.c_int64, "uint32_t": ctypes.c_uint32, "float": ctypes.c_float, "double": ctypes.c_double}


def fields_of(struct):
    """[(name, C type, whether it is a pointer, length)] of a struct in the header."""
    header = re.sub("//.*", "", (ROOT / "csrc" / "nca.h").read_text(encoding="utf-8"))
    body = re.search(rf"struct {struct} {{(.*?)}};", header, re.DOTALL)
    assert body is not None
    for kind, names in re.findall(r"(?:const )?(\w+) ([^;]+);", body[1].replace("*", " * ").replace("  ", " ")):
        for name in names.split(","):
            pointer, bare, length = re.fullmatch(r" *(\* *)?(\w+)(?:\[(\d+)\])?", name).groups()
            yield bare, kind, pointer is not None, int(length or 1)


@pytest.mark.parametrize(
    ("struct", "fields"), [("nca_job", native_library.Job), ("nca_gradients", native_library.Gradients)]
)
def test_the_structs_of_python_are_those_of_the_header(struct, fields):
    declared = list(fields_of(struct))
    assert [name for name, *_ in declared] == [name for name, _ in fields._fields_]
    for (name, kind, pointer, length), (_, found) in zip(declared, fields._fields_, strict=True):
        expected = ctypes.c_void_p if pointer else C_TYPES[kind]
        assert ctypes.sizeof(found) == length * ctypes.sizeof(expected), name
        if not pointer:
            assert found is (expected if length == 1 else expected * length), name


# Installing without a compiler --------------------------------------------------------------------------------------

FALSE = shutil.which("false") or "/bin/false"
TRAIN = """
import delira_nca, torch
from delira_nca.models import BasicNCAModel
from delira_nca.rollout import native_library, rollout
from delira_nca.rollout.backends import choose
from delira_nca.rollout.job import Job

print(delira_nca.__file__)
assert native_library.available() == ()
model, x = BasicNCAModel(), torch.rand(2, 16, 8, 8)
print(choose(Job(x, model, 4, (4,))).name)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
before = rollout(x, model, 4, seed=1)
before.square().mean().backward()
optimizer.step()
assert not torch.equal(rollout(x, model, 4, seed=1), before)
print("trained")
"""


@pytest.mark.slow
def test_without_a_compiler_the_package_installs_with_one_clear_line_and_works(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    for name in ("delira_nca", "csrc"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-v"]
    install = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        env={**os.environ, "CC": FALSE, "CXX": FALSE},
        capture_output=True,
        text=True,
        check=False,
    )
    output = install.stdout + install.stderr
    assert install.returncode == 0, output
    (line,) = re.findall(r".*no native roll-out.*", output)
    assert re.search(r"for .*portable.*: the C\+\+ compiler failed\. PyTorch does its work, slower\.", line)
    assert not list(target.rglob("_native_*"))
    environment = {**os.environ, "PYTHONPATH": str(target), ENVIRONMENT_VARIABLE: ""}
    trained = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRAIN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
    where, backend, word = trained.stdout.split()
    assert Path(where).is_relative_to(target)
    assert (backend, word) == ("sparse", "trained")
