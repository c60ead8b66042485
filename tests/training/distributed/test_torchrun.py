"""Real processes, started by torchrun: they train as one would, and end together."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from delira_nca.io import RunLock, load_checkpoint

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SECONDS = 120
"""For a whole training, on a machine that does other things too."""


def _load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trainings = _load("trainings")


def torchrun(folder, what, *options):
    """Run two processes to their end."""
    options = ["--standalone", "--nproc_per_node=2", *options]
    command = ["-m", "torch.distributed.run", *options, str(HERE / "run.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command, str(folder), what], env=environment, capture_output=True, text=True, timeout=SECONDS
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes came to, in the order of ranks, and the folder they wrote to."""
    folder = tmp_path_factory.mktemp("together")
    done = torchrun(folder, "everything")
    assert done.returncode == 0, done.stderr[-4000:]
    results = torch.load(folder / "results.pt", weights_only=False)
    return *results, folder, done


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The training with a pool, in this process."""
    folder = tmp_path_factory.mktemp("alone")
    return trainings.train_with_a_pool(folder), folder


def assert_close(ours, theirs, tolerance=1e-5):
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.allclose(tensor.double(), theirs[name].double(), rtol=0, atol=tolerance), name


def assert_alike(first, second, expected):
    """Two processes have the same weights, those of one, and together its values and its pool."""
    assert_equal(first["weights"], second["weights"])
    assert_close(first["weights"], expected["weights"])
    assert first["history"] == second["history"]
    assert len(first["history"]) == len(expected["history"])
    for ours, theirs in zip(first["history"], expected["history"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    if "states" in expected:
        assert torch.allclose(torch.cat([first["states"], second["states"]]), expected["states"], atol=1e-5)
        assert torch.equal(torch.cat([first["labels"], second["labels"]]), expected["labels"])
        assert first["exploded"] == second["exploded"] == expected["exploded"]


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_weights_and_values_are_those_of_one_process_with_the_whole_batch(together, alone):
    first, second = (result["pool"] for result in together[:2])
    trainer, _ = alone
    assert_alike(first, second, trainings.summary(trainer))
    assert first["reason"] == second["reason"]
    assert trainer.stop_reason.startswith("PATIENCE")
    assert first["reason"].startswith("PATIENCE")
    assert first["run_id"] == second["run_id"]


def test_validation_counts_each_sample_once(together):
    first, *_ = together
    expected = (3 * 3 + 3 * 3 + 1 * 1) / 7  # of batches of 3, 3 and 1, weighted by their samples
    assert first["pool"]["history"][0]["val_count"] == pytest.approx(expected)


def test_each_process_holds_its_part_of_the_pool_and_all_know_the_losses(together, alone):
    first, second = (result["pool"] for result in together[:2])
    assert (len(first["states"]), len(second["states"])) == (6, 5)
    assert torch.equal(first["losses"], second["losses"])
    assert torch.allclose(first["losses"], alone[0].callbacks[1].pool.losses, atol=1e-5)


@pytest.mark.parametrize("name", trainings.COMPARED)
def test_holes_mutations_losses_on_the_way_and_closures_are_those_of_the_whole_batch(together, name):
    expected = trainings.summary(trainings.COMPARED[name]())
    assert_alike(together[0][name], together[1][name], expected)
    if name == "damage":
        assert expected["exploded"] > 0
    if name == "mutation":
        assert expected["labels"].flatten(1).any(1).sum() > 5
    if name == "terms":
        assert {"intermediate", "activity", "overflow"} <= expected["history"][0].keys()


def test_a_checkpoint_holds_the_whole_pool_and_plain_names_of_weights(together, alone):
    ours = load_checkpoint(together[2] / "straight" / "checkpoint_best.safetensors")
    theirs = load_checkpoint(alone[1] / "checkpoint_best.safetensors")
    assert ours["circumstances"]["processes"] == 2
    assert ours["network"].keys() == theirs["network"].keys()
    pools = [state["callbacks"]["PoolUpdate"] for state in (ours, theirs)]
    assert pools[0]["states"]["shape"] == pools[1]["states"]["shape"]
    assert torch.equal(pools[0]["states"]["cells"], pools[1]["states"]["cells"])
    assert torch.allclose(pools[0]["states"]["values"], pools[1]["states"]["values"], atol=1e-5)
    assert torch.equal(pools[0]["slots"]["number"], torch.arange(11.0))


@pytest.mark.parametrize("is_per_sample", [False, True])
def test_what_is_drawn_is_the_same_in_every_part_which_is_built_alone_where_samples_are(together, is_per_sample):
    expected, _ = trainings.augmented(is_per_sample)
    seen, asked = zip(*(result["augmented"][is_per_sample] for result in together[:2]), strict=True)
    for number, batch in enumerate(expected):
        assert np.array_equal(np.concatenate([parts[number] for parts in seen]), batch)
    assert asked == ([0, 1, 4], [2, 3, 4]) or not is_per_sample


def test_weights_without_a_gradient_stay_and_changed_buffers_are_those_of_the_first_process(together):
    trainer = trainings.train_partly_used()
    ours, others, theirs = (
        {name: value for name, value in weights.items() if name.startswith(("used", "unused"))}
        for weights in (*(result["partly used"] for result in together[:2]), dict(trainer.network.state_dict()))
    )
    assert_equal(ours, others)
    assert_close(ours, theirs)
    assert torch.equal(ours["unused.weight"], trainings.PartlyUsed().unused.weight)


def test_predictions_are_gathered_in_order(together):
    expected = trainings.predict()
    for result in together[:2]:
        shared = result["predict"]
        assert np.array_equal(shared["shared"], expected["shared"])
        assert np.array_equal(shared["alone"], expected["alone"])
        assert np.array_equal(np.concatenate(shared["labels"]), np.concatenate(expected["labels"]))
        assert shared["means"] == pytest.approx(expected["means"], abs=1e-6)


def test_the_processes_talk_and_know_what_they_were_told(together):
    first, second, *_ = together
    assert first["talk"] == second["talk"] == ({"a": 3.0}, "of 1", 2)
    assert "in each of 2 processes" in first["pool"]["text"]
    for result in (first, second):
        assert result["refused"] == (
            "num_epochs is not the same in all processes of this training. rank 0: 2; rank 1: 3"
        )


def test_a_resumed_run_ends_with_the_same_bits(together):
    first, second, *_ = together
    for result in (first, second):
        assert_equal(result["resumed"], first["pool"]["weights"])


def test_one_process_that_wants_to_stop_stops_all_at_the_same_step(together):
    first, second, folder, _ = together
    assert load_checkpoint(folder / "straight" / "checkpoint_best.safetensors")["run_id"] == first["pool"]["run_id"]
    for result in (first, second):
        assert result["stop"] == (5, "enough")
        assert_equal(result["stopped"], first["pool"]["weights"])


def test_one_process_goes_on_with_a_run_of_two_and_says_so(together, alone, tmp_path, caplog):
    newest = together[2] / "resumed" / "checkpoint_epoch_2.safetensors"
    if not newest.exists():
        newest = min((together[2] / "resumed").glob("checkpoint_epoch_*.safetensors"))
    trainer = trainings.train_with_a_pool(tmp_path, resume=newest)
    assert "processes: 2 then, 1 now" in caplog.text
    assert_close(dict(trainer.network.state_dict()), dict(alone[0].network.state_dict()))


def test_only_the_first_process_writes_and_prints(together):
    first, second, folder, done = together
    assert any(path.endswith("manifest.json") for path in first["written"])
    assert second["written"] == []
    assert not list(folder.rglob(".*"))
    lines = [line for line in done.stderr.splitlines() if re.match(r"epoch \d", line)]
    assert [int(line.split()[1].split("/")[0]) for line in lines] == list(range(1, len(lines) + 1))


def test_no_thread_outlives_the_group_to_abort_the_end_of_the_process(together):
    assert together[3].stdout.count("threads left: []") == 2


@pytest.mark.slow
def test_a_killed_process_ends_all_and_those_that_are_started_again_go_on_bit_for_bit(together, tmp_path):
    done = torchrun(tmp_path, "SIGKILL", "--max-restarts=1")
    assert done.returncode == 0, done.stderr[-4000:]
    happened = float(re.search(r"happens at (\S+)", done.stdout)[1])
    text, at, files = re.search(r"rank 0: DistributedError: (.*) at (\S+) with (.*)", done.stdout).groups()
    assert text.startswith("rank 0 has lost another process of this training: a connection has failed")
    assert text.endswith("resume='auto'")
    assert float(at) - happened < 20
    assert files == "checkpoint_best.safetensors checkpoint_epoch_1.safetensors"
    ours, theirs = (_files(folder) for folder in (tmp_path, together[2] / "straight"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_equal(ours[name]["network"], theirs[name]["network"])
        assert ours[name]["history"] == theirs[name]["history"]


def _files(folder):
    return {path.name: load_checkpoint(path) for path in folder.glob("checkpoint_*.safetensors")}


@pytest.mark.slow
def test_an_error_in_one_process_is_told_by_all(tmp_path):
    done = torchrun(tmp_path, "raise")
    assert done.returncode != 0
    cause = "rank 1 failed: CallbackError: callback LambdaCallback failed in at_iter_begin: ValueError: on purpose"
    assert f"DistributedError: rank 0 has lost another process of this training: {cause}" in done.stdout
    assert (tmp_path / "checkpoint_epoch_1.safetensors").exists()
    with RunLock(tmp_path):  # which is free
        pass


@pytest.mark.slow
def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path):
    done = torchrun(tmp_path, "SIGTERM")
    ends = re.findall(r"rank (\d): Terminated: the training was ended by SIGTERM", done.stdout)
    assert sorted(ends) == ["0", "1"]
    state = load_checkpoint(tmp_path / "checkpoint_epoch_2_iter_2.safetensors")
    assert (state["global_iter_num"], state["callbacks"]["PoolUpdate"]["num_draws"]) == (5, 5)


@pytest.mark.slow
def test_a_process_that_falls_silent_is_lost(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATIENCE": "3", "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    places = [{"RANK": number, "LOCAL_RANK": number} for number in ("0", "1")]
    command = [sys.executable, str(HERE / "run.py"), str(tmp_path), "SIGSTOP"]
    first, second = (
        subprocess.Popen(
            command, env={**environment, **place}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for place in places
    )
    try:
        text, _ = first.communicate(timeout=SECONDS)
    finally:
        for process in (first, second):
            process.kill()
        second.communicate()
    assert first.returncode == 1
    assert (
        "DistributedError: rank 0 has lost another process of this training: rank 1 has given no sign of life" in text
    )


def _free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
