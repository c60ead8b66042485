"""Statistics and scores are read as they were written, and what is there is whole."""

import json
import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import xarray

from delira_nca.errors import ConfigError, MissingDependencyError, MissingFileError, UnknownNameError
from delira_nca.experiment.stats import (
    Criterion,
    EvaluationScores,
    TrainingIterationStats,
    TrainingStats,
    ValidationIterationScores,
    ValidationScores,
    array_file,
    load_training_stats,
    load_validation_scores,
    save_training_stats,
    save_validation_scores,
)

ODD = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1, -1 / 3]
"""Numbers that a file could lose something of."""
SUFFIXES = [".nc", ".zarr"]


def bits(value):
    """Of floats in any nesting."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {name: bits(part) for name, part in value.items()}
    return [bits(part) for part in value]


def make_stats():
    entries = [TrainingIterationStats(2 * i, x, -x, {"ä b/c.": x} if i % 2 else {}) for i, x in enumerate(ODD)]
    return TrainingStats([*entries, TrainingIterationStats(2**62, 1.0, 2.0, {"values": math.nan, "..": 3.0})])


def make_scores(iterations=(0, 7, 2**62), parameters=({"threshold": 0.5, "steps": 64}, {"threshold": math.inf})):
    criteria = EvaluationScores(
        [
            Criterion("dice", True, (0, 1)),
            Criterion("hausdorff", False, (0, math.inf), store_best=False),
            Criterion("größe/ml", False),
        ]
    )
    scores = ValidationScores(parameters, ["liver 1", "a/b", "ö"], criteria)
    shape = (3, len(scores.parameters), 3)
    for iteration in iterations:
        scores.add_iteration_scores(
            ValidationIterationScores(
                iteration, np.resize(np.roll(ODD, iteration % 5), math.prod(shape)).reshape(shape)
            )
        )
    return scores


KINDS = {
    "stats": (make_stats, save_training_stats, load_training_stats),
    "scores": (make_scores, save_validation_scores, load_validation_scores),
}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / "folder" / f"file{request.param}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_is_read(path, kind):
    make, save, load = KINDS[kind]
    save(make(), path)
    assert load(path) == make()
    assert os.listdir(path.parent) == [path.name]


def test_statistics_are_the_same_to_the_last_bit(path):
    save_training_stats(make_stats(), str(path))
    found = load_training_stats(str(path))
    for ours, theirs in zip(make_stats().iteration_stats, found.iteration_stats, strict=True):
        assert bits([ours.loss, ours.time]) == bits([theirs.loss, theirs.time])
        assert bits(ours.values) == bits(theirs.values)
    assert found.to_xarray().identical(make_stats().to_xarray())
    assert found.to_dataset().identical(make_stats().to_dataset())


@pytest.mark.parametrize("number", [*ODD, 1.0])
def test_a_column_of_one_number_is_the_same_to_the_last_bit(path, number):
    save_training_stats(TrainingStats([TrainingIterationStats(i, number, number) for i in range(3)]), path)
    assert bits([[s.loss, s.time] for s in load_training_stats(path).iteration_stats]) == bits([[number] * 2] * 3)


def test_scores_are_the_same_to_the_last_bit_directions_and_settings_included(path):
    save_validation_scores(make_scores(), path)
    found = load_validation_scores(path)
    assert bits([entry.scores for entry in found.scores]) == bits([entry.scores for entry in make_scores().scores])
    assert found.evaluation_scores == make_scores().evaluation_scores
    assert [found.evaluation_scores.higher_is_better(c) for c in found.criteria] == [True, False, False]
    assert found.evaluation_scores.bounds("hausdorff") == (0.0, math.inf)
    assert not found.evaluation_scores.store_best("hausdorff")
    assert [[(k, type(v), v) for k, v in p.items()] for p in found.parameters] == [
        [("threshold", float, 0.5), ("steps", int, 64)],
        [("threshold", float, math.inf)],
    ]
    assert found.to_xarray().identical(make_scores().to_xarray())
    assert found.validated_until() == 2**62 + 1


@pytest.mark.parametrize(
    "parameters", [[127, "otsu"], [], [{}], [{"on": True, "mode": None, "n": 2**70, "x": 1.0, "name": "1"}]]
)
def test_parameters_of_every_kind_are_read_as_they_were(path, parameters):
    scores = make_scores(parameters=parameters)
    save_validation_scores(scores, path)
    found = load_validation_scores(path)
    assert found == scores
    assert [type(p) for p in found.parameters] == [type(p) for p in parameters]
    assert json.dumps(found.parameters) == json.dumps(parameters)


def test_what_is_empty_is_read_as_it_was(path):
    for made, (_, save, load) in ((TrainingStats(), KINDS["stats"]), (make_scores(()), KINDS["scores"])):
        save(made, path)
        assert load(path) == made


def test_a_file_is_readable_by_xarray_alone(path):
    save_validation_scores(make_scores(), path)
    open_file = xarray.open_dataset if path.suffix == ".nc" else xarray.open_zarr
    how = {"engine": "h5netcdf"} if path.suffix == ".nc" else {"consolidated": False, "chunks": None}
    with open_file(path, **how) as found:
        best = found.scores.sel(iterations=7, datasets="ö", criteria="dice", parameters="threshold=inf")
        assert best.item() == make_scores().scores[1].scores[2][1][0]
        assert dict(zip(found.criteria.values.tolist(), found.higher_is_better.values.tolist(), strict=True)) == {
            "dice": True,
            "hausdorff": False,
            "größe/ml": False,
        }


def test_a_large_sweep_fits(path):
    scores = make_scores((0,), [{"threshold": i / 3000, "note": "x" * 40} for i in range(3000)])
    save_validation_scores(scores, path)
    assert load_validation_scores(path) == scores


def test_a_new_file_replaces_a_longer_one_as_a_whole(path):
    save_training_stats(make_stats(), path)
    save_training_stats(TrainingStats([TrainingIterationStats(0, 1.0)]), path)
    assert load_training_stats(path) == TrainingStats([TrainingIterationStats(0, 1.0)])
    assert os.listdir(path.parent) == [path.name]


def test_a_write_that_fails_leaves_the_former_file_and_nothing_else(path, monkeypatch):
    save_training_stats(TrainingStats([TrainingIterationStats(0, 1.0)]), path)
    method = "to_netcdf" if path.suffix == ".nc" else "to_zarr"
    write = getattr(xarray.Dataset, method)

    def fail(self, *args, **kwargs):
        write(self, *args, **kwargs)
        raise OSError("the disk is full")

    monkeypatch.setattr(xarray.Dataset, method, fail)
    with pytest.raises(OSError, match="the disk is full"):
        save_training_stats(make_stats(), path)
    assert load_training_stats(path).trained_until() == 1
    assert os.listdir(path.parent) == [path.name]


KILLED = """
import os, sys
from delira_nca.experiment.stats import TrainingIterationStats, TrainingStats, save_training_stats
path, moment = sys.argv[1], int(sys.argv[2])
stats = TrainingStats([TrainingIterationStats(i, 2.0) for i in range(5)])
import delira_nca.experiment.stats.array_file
real, calls = os.rename, []
def rename(*names):
    if len(calls) == moment:
        os._exit(9)
    calls.append(names)
    real(*names)
os.rename = rename
save_training_stats(stats, path)
os._exit(7)
"""


@pytest.mark.parametrize(("moment", "end"), [(0, 9), (1, 9), (2, 7)])
def test_a_folder_whose_writer_is_killed_is_the_former_or_the_new_one(tmp_path, moment, end):
    path = tmp_path / "stats.zarr"
    former = TrainingStats([TrainingIterationStats(0, 1.0)])
    save_training_stats(former, path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(moment)], check=False)
    assert done.returncode == end
    assert load_training_stats(path).trained_until() == (1 if end == 9 else 5)
    if moment == 1:
        assert not path.exists()  # the former one was read where it had been put aside
        with pytest.raises(AttributeError):
            array_file.write_dataset(None, path)
        assert load_training_stats(path) == former
    save_training_stats(make_stats(), path)
    assert load_training_stats(path) == make_stats()
    assert os.listdir(tmp_path) == ["stats.zarr"]


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "stats.zarr"
    save_training_stats(TrainingStats([TrainingIterationStats(0, 1.0)]), path)
    read, seen = array_file._read, []

    def slow(place):
        found = read(place)
        if not seen:
            save_training_stats(make_stats(), path)
        seen.append(place)
        return found

    monkeypatch.setattr(array_file, "_read", slow)
    assert load_training_stats(path) == make_stats()
    assert len(seen) == 2


def test_what_is_no_such_file_is_refused(path):
    with pytest.raises(MissingFileError, match="there is no .*file"):
        load_training_stats(path)
    save_training_stats(make_stats(), path)
    with pytest.raises(ConfigError, match="holds no validation scores, but training stats"):
        load_validation_scores(path)
    save_validation_scores(make_scores(), path)
    with pytest.raises(ConfigError, match="holds no training stats, but validation scores"):
        load_training_stats(path)
    array_file.write_dataset(xarray.Dataset({"a": 1.0}), path)
    with pytest.raises(ConfigError, match="holds no training stats$"):
        load_training_stats(path)
    array_file.write_dataset(xarray.Dataset(attrs={"delira_nca": "training stats", "delira_nca_version": 9}), path)
    with pytest.raises(ConfigError, match="of version 9, and this package reads 1"):
        load_training_stats(path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "stats.nc"
    path.write_bytes(b"no netCDF at all")
    with pytest.raises(ConfigError, match=r"stats.nc cannot be read"):
        load_training_stats(path)
    path = tmp_path / "stats.zarr"
    path.mkdir()
    with pytest.raises(ConfigError, match=r"stats.zarr cannot be read"):
        load_training_stats(path)


@pytest.mark.parametrize("kind", KINDS)
def test_another_ending_is_refused(tmp_path, kind):
    make, save, load = KINDS[kind]
    with pytest.raises(UnknownNameError, match=r"ends in '.nc' \(netCDF\) or '.zarr', not 'a.json'"):
        save(make(), tmp_path / "a.json")
    with pytest.raises(UnknownNameError, match=r"not 'a'"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("library", "suffix"),
    [("xarray", ".nc"), ("h5py", ".nc"), ("h5netcdf", ".nc"), ("zarr", ".zarr")],
)
def test_a_missing_library_is_named_before_anything_is_done(tmp_path, monkeypatch, library, suffix):
    monkeypatch.setitem(sys.modules, library, None)
    for call in (lambda p: save_training_stats(TrainingStats(), p), load_validation_scores):
        with pytest.raises(MissingDependencyError, match=rf"{library} is needed .*pip install 'delira_nca\[stats\]'"):
            call(tmp_path / f"file{suffix}")
    assert os.listdir(tmp_path) == []


def test_importing_the_package_imports_no_xarray():
    script = (
        "import sys, delira_nca.experiment.stats; print(*({'xarray', 'zarr', 'h5py', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
