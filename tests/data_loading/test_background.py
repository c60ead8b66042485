"""Background processes: what results are, in which order, and which errors arrive."""

import gc
import os
import random
import signal
import sys
import time

import numpy as np
import pytest
import torch

from delira_nca.data_loading.background import BackgroundProc, WorkerError
from delira_nca.errors import ConfigError, ShapeError
from delira_nca.seeding import derive_seed, isolated_rng

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("leaves_no_process"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="targets of these tests are not importable in spawned workers"),
]


def make(target, **arguments):
    return BackgroundProc(target, **{"start_method": "fork", "timeout": 60.0, **arguments})


def draw():
    time.sleep(random.random() * 0.01)  # workers overtake each other
    return {"numpy": np.random.rand(3), "python": np.array(random.random()), "torch": torch.rand(2, 2).numpy()}


def first_random_number():
    """A number that the seed of the call decides."""
    return np.random.randint(0, 2**31)


def numbers(count, seed=0):
    """What `first_random_number` gives in the calls 0, 1, ..."""
    drawn = []
    for call in range(count):
        with isolated_rng(derive_seed(seed, "background", call)):
            drawn.append(first_random_number())
    return drawn


class FailAt:
    """Does something at the call whose random number it was told, and returns two numbers in all others."""

    def __init__(self, call, action):
        self.trigger, self.action = numbers(call + 1)[-1], action

    def __call__(self):
        number = first_random_number()
        return self.action() if number == self.trigger else np.array([number, 1])


def raise_zero_division():
    raise ZeroDivisionError("no slice of call three")


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(600)


def flatten(batches):
    return [{key: value.tolist() for key, value in batch.items()} for batch in batches]


def test_any_number_of_processes_delivers_the_same_sequence():
    expected = None
    for n_proc in (0, 1, 2, 4):
        with make(draw, n_proc=n_proc, seed=5) as background:
            batches = flatten(background.get() for _ in range(12))
        expected = expected or batches
        assert batches == expected
    assert len({batch["python"] for batch in expected}) == 12
    assert len({str(batch["numpy"]) for batch in expected}) == 12
    assert len({str(batch["torch"]) for batch in expected}) == 12


def test_another_seed_is_another_sequence():
    drawn = []
    for seed in (0, 1):
        with make(first_random_number, n_proc=2, seed=seed) as background:
            drawn.append([int(background.get()) for _ in range(4)])
        assert drawn[-1] == numbers(4, seed)
    assert not set(drawn[0]) & set(drawn[1])


@pytest.mark.parametrize("n_proc", [0, 2])
def test_given_types_and_shapes_change_nothing(n_proc):
    with make(draw, n_proc=n_proc) as inferred:
        shapes = {"python": (), "torch": (2, 2), "numpy": (3,)}
        dtypes = {"torch": "f4", "numpy": np.float64, "python": float}
        with make(draw, dtypes=dtypes, shapes=shapes, n_proc=n_proc) as given:
            assert flatten([given.get(), given.get()]) == flatten([inferred.get(), inferred.get()])


def count_with_a_file(path):
    with open(path, "a") as file:
        file.write("x")
    return np.ones(2)


def test_the_call_that_infers_is_not_made_twice(tmp_path):
    with make(count_with_a_file, target_args=(tmp_path / "calls",), read_ahead=1) as background:
        for _ in range(3):
            background.get()
        deadline = time.monotonic() + 20
        while (tmp_path / "calls").read_text() != "xxxx" and time.monotonic() < deadline:
            time.sleep(0.02)
    assert (tmp_path / "calls").read_text() == "xxxx"  # three results, and one read ahead


def test_the_users_generators_are_left_alone():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    for n_proc in (0, 1):
        with make(draw, n_proc=n_proc) as background:
            background.get()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


RESULTS = {
    "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    "in the order of Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "number": 3.5,
    "empty": np.zeros((0, 3), np.float32),
    "tuple": (np.float16([1, 2]), np.array([True, False])),
    "list": [np.arange(3), np.array(["a", "bc"])],
    "dict": {"data": np.ones((2, 1)), 7: np.zeros(2, ">i4"), "c": np.array([1 + 2j])},
    "dates": np.array(["2020-01-01"], "M8[D]"),
}


def give(value):
    return value


def leaves(result):
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, (tuple, list)) else [result]


@pytest.mark.parametrize("n_proc", [0, 1])
@pytest.mark.parametrize("name", RESULTS)
def test_results_of_any_form_arrive_as_they_were(name, n_proc):
    with make(give, target_args=(RESULTS[name],), n_proc=n_proc) as background:
        for _ in range(3):  # the first one comes another way
            result = background.get()
            expected = RESULTS[name]
            assert type(result) is (np.ndarray if name == "number" else type(expected))
            assert not isinstance(result, dict) or list(result) == list(expected)
            for array, right in zip(leaves(result), leaves(expected), strict=True):
                assert array.dtype == np.asarray(right).dtype
                assert array.flags.c_contiguous
                assert array.flags.writeable
                np.testing.assert_array_equal(array, right)


def test_results_belong_to_the_caller():
    with make(first_random_number, n_proc=2, read_ahead=1) as background:
        kept = [background.get() for _ in range(12)]
    assert [int(array) for array in kept] == numbers(12)


def test_reading_far_ahead_does_not_block():
    with make(first_random_number, n_proc=1, read_ahead=1500) as background:
        assert [int(background.get()) for _ in range(5)] == numbers(5)
        time.sleep(0.3)  # the worker has finished what it may
        assert [int(background.get()) for _ in range(200)] == numbers(205)[5:]


def test_views_hold_until_the_next_get_and_their_memory_as_long_as_they():
    expected = numbers(8)
    background = make(first_random_number, n_proc=2, read_ahead=1, copy=False)
    for number in expected[:-1]:
        view = background.get()
        assert int(view) == number
        time.sleep(0.01)  # nobody writes there meanwhile
        assert int(view) == number
    view = background.get()
    background.shutdown()
    assert int(view) == expected[-1]
    del view
    gc.collect()


def test_lists_of_types_and_shapes_as_on_the_api_page():
    with make(give, dtypes=[np.float32, np.int16], shapes=[(2, 3), (2,)], target_args=(
        (np.ones((2, 3), np.float32), np.array([1, 2], np.int16)),
    )) as background:  # fmt: skip
        data, label = background.get()
    assert data.tolist() == [[1.0] * 3] * 2
    assert label.tolist() == [1, 2]


def test_one_type_in_a_list_fits_a_bare_array():
    with make(give, dtypes=[np.float64], shapes=[(2,)], target_args=(np.ones(2),)) as background:
        assert background.get().tolist() == [1.0, 1.0]


def fill_in_place(arrays, shapes, value):
    assert [array.shape for array in arrays] == shapes
    arrays[0][...] = value
    arrays[1][...] = np.random.rand(*shapes[1])


def test_a_target_can_write_into_the_slot_itself():
    drawn = []
    for n_proc in (0, 2):
        with make(
            fill_in_place, dtypes=["f4", "f8"], shapes=[(2, 2), (3,)], n_proc=n_proc, target_args=(4,), fill=True
        ) as background:
            batches = [background.get() for _ in range(6)]
        assert all(isinstance(batch, list) and batch[0].tolist() == [[4.0, 4.0]] * 2 for batch in batches)
        drawn.append([batch[1].tolist() for batch in batches])
    assert drawn[0] == drawn[1]
    assert len({str(row) for row in drawn[0]}) == 6


@pytest.mark.parametrize("n_proc", [0, 1, 2])
def test_an_exception_arrives_at_its_call_with_type_text_and_traceback(n_proc):
    with make(FailAt(3, raise_zero_division), n_proc=n_proc) as background:
        good = [int(background.get()[0]) for _ in range(3)]
        with pytest.raises(ZeroDivisionError, match="^no slice of call three$") as caught:
            background.get()
        if n_proc:
            assert "in background worker" in str(caught.value.__cause__)
            assert "call 3" in str(caught.value.__cause__)
            assert "in raise_zero_division" in str(caught.value.__cause__)
        good += [int(background.get()[0]) for _ in range(2)]  # the others are not harmed
    expected = numbers(6)
    assert good == expected[:3] + expected[4:]


@pytest.mark.parametrize("n_proc", [0, 2])
def test_reset_goes_on_with_the_next_call(n_proc):
    with make(FailAt(2, raise_zero_division), n_proc=n_proc) as background:
        background.get(), background.get()
        with pytest.raises(ZeroDivisionError):
            background.get()
        background.reset()
        assert background.call == 3
        assert [int(background.get()[0]) for _ in range(2)] == numbers(5)[3:]
        background.reset(call=1)
        assert int(background.get()[0]) == numbers(2)[1]


@pytest.mark.parametrize("n_proc", [0, 2])
def test_a_sequence_can_begin_anywhere(n_proc):
    with make(first_random_number, n_proc=n_proc, first_call=4) as background:
        assert background.call == 4
        assert [int(background.get()) for _ in range(3)] == numbers(7)[4:]


def test_an_exception_that_cannot_travel_is_named():
    class LocalError(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    def fail():
        raise LocalError("salt", "pepper")

    with pytest.raises(WorkerError, match="LocalError: salt and pepper") as caught:
        make(fail)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration("the end"), KeyboardInterrupt()], ids=repr)
def test_what_would_end_a_loop_or_the_program_is_a_worker_error(error):
    def fail():
        raise error

    with pytest.raises(WorkerError, match=type(error).__name__):
        make(fail)


@pytest.mark.parametrize("n_proc", [0, 1, 2])
@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (np.zeros(3, np.int64), r"int64 \(3,\)"),
        (np.zeros(2, np.float32), r"float32 \(2,\)"),
        ((np.zeros(2), np.zeros(2)), r"\[float64 \(2,\), float64 \(2,\)\]"),
        ({"a": np.zeros(2)}, r"\{'a': float64 \(2,\)\}"),
    ],
    ids=["shape", "type", "tuple", "dict"],
)
def test_a_result_of_another_form_is_an_error_with_both(other, shown, n_proc):
    with make(FailAt(2, lambda: other), n_proc=n_proc) as background:
        background.get(), background.get()
        with pytest.raises(ShapeError, match=rf"^call 2 returned {shown}, expected int64 \(2,\)"):
            background.get()
        assert int(background.get()[0]) == numbers(4)[3]


def test_a_wrong_type_is_not_cast():
    background = make(give, dtypes="f4", shapes=(2,), target_args=(np.zeros(2),))
    with background, pytest.raises(ShapeError, match=r"call 0 returned float64 \(2,\), expected float32 \(2,\)"):
        background.get()


@pytest.mark.parametrize("value", [None, object(), {"a": None}, np.ma.masked_array([1, 2], [True, False])], ids=type)
@pytest.mark.parametrize("n_proc", [0, 1])
def test_what_is_no_array_is_refused(value, n_proc):
    with pytest.raises(ConfigError, match="call 0: .* which is not an array"):
        make(give, target_args=(value,), n_proc=n_proc)
