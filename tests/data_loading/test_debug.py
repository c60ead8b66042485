import os
import threading

import numpy as np
import pytest

from delira_nca.data_loading import DataManager, RandomSampler
from delira_nca.data_loading.show import DebugDisabled, DebugEnabled, debug_mode, is_debug


def add_noise_and_pid(batch):
    noise = np.random.normal(size=batch["x"].shape)
    return {"x": batch["x"] + noise, "pid": np.array([os.getpid()])}


def make_manager():
    return DataManager({"x": np.arange(12.0)}, 3, 2, add_noise_and_pid, RandomSampler, seed=4)


def test_debug_mode_builds_the_same_batches_in_this_process():
    with make_manager() as manager:
        usual = list(manager.get_batchgen(epoch=3))
    with debug_mode(), make_manager() as manager:
        debugged = list(manager.get_batchgen(epoch=3))
        assert manager.n_process_augmentation == 2
        assert manager._workers._idle is None
    assert all(batch["pid"][0] != os.getpid() for batch in usual)
    assert all(batch["pid"][0] == os.getpid() for batch in debugged)
    assert [batch["x"].tolist() for batch in usual] == [batch["x"].tolist() for batch in debugged]


def test_innermost_block_decides_and_the_end_of_each_restores():
    assert not is_debug()
    with DebugEnabled():
        assert is_debug()
        with DebugDisabled():
            assert not is_debug()
            with debug_mode():
                assert is_debug()
        assert is_debug()
    assert not is_debug()
    with pytest.raises(KeyError), debug_mode():
        raise KeyError
    assert not is_debug()


def test_debug_mode_is_of_one_thread_and_decorates_a_function():
    seen = []
    with debug_mode():
        thread = threading.Thread(target=lambda: seen.append(is_debug()))
        thread.start()
        thread.join()
    assert seen == [False]
    assert debug_mode()(is_debug)()
    assert not is_debug()
