import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import delira_nca
from delira_nca.errors import ConfigError
from delira_nca.seeding import derive_seed, generator, isolated_rng, only_thread


def test_a_key_gives_its_numbers_whoever_asks_first():
    first = generator(5, "pool", 3).random(4).tolist()
    generator(5, "augment", 1, 2).random(100)
    assert generator(5, "pool", 3).random(4).tolist() == first


def test_different_keys_give_different_numbers():
    keys = [
        (5,),
        (6,),
        (5, "pool"),
        (5, "augment"),
        (5, "pool", 0),
        (5, "pool", 1),
        (5, 0, "pool"),
        (5, 1, 0),
        (5, 0, 1),
    ]
    assert len({float(generator(*key).random()) for key in keys}) == len(keys)
    assert len({derive_seed(*key) for key in keys}) == len(keys)


def test_seeds_have_32_bits_and_are_spread_evenly():
    seeds = np.array([derive_seed(0, "rollout", i) for i in range(2000)], dtype=np.float64)
    assert 0 <= seeds.min() <= seeds.max() < 2**32
    assert abs(seeds.mean() / 2**32 - 0.5) < 4 / np.sqrt(12 * 2000)
    neighbours = np.corrcoef(seeds[1:], seeds[:-1])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(2000)


def test_another_process_with_another_hash_seed_gives_the_same():
    script = "from delira_nca.seeding import derive_seed; print(derive_seed(7, 'pool', 3, 'x'))"
    root = Path(delira_nca.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env={"PYTHONHASHSEED": "123", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == derive_seed(7, "pool", 3, "x")


@pytest.mark.parametrize("seed", [-1, 1.5, "7", None, True])
def test_a_seed_is_a_whole_number(seed):
    for function in (generator, derive_seed):
        with pytest.raises(ConfigError, match="whole number of at least 0, not"):
            function(seed, "pool")
    assert derive_seed(np.int64(3)) == derive_seed(3)


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_inside_of_the_block_global_generators_are_a_function_of_the_seed():
    with isolated_rng(1):
        first = draw()
    draw()
    with isolated_rng(1):
        assert draw() == first
    with isolated_rng(2):
        assert not set(draw()) & set(first)


def test_after_the_block_the_users_generators_go_on_as_if_nothing_was():
    def seed_all():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)

    seed_all()
    expected = draw()
    seed_all()
    with isolated_rng(9):
        draw()
    assert draw() == expected
    seed_all()

    @isolated_rng(9)
    def fail():
        draw()
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert draw() == expected


def test_blocks_can_be_nested():
    with isolated_rng(1):
        first, second = draw(), draw()
    with isolated_rng(1):
        assert draw() == first
        with isolated_rng(2):
            draw()
        assert draw() == second


@pytest.mark.parametrize("draws", [0, 1, 2, 3])
def test_isolated_numbers_leave_the_second_of_a_pair_of_normal_numbers(draws):
    np.random.seed(5)
    expected = np.random.normal(size=6).tolist()
    np.random.seed(5)
    numbers = np.random.normal(size=draws).tolist()
    users = np.random.get_bit_generator()
    with isolated_rng(1):
        first = np.random.normal()
        with isolated_rng(2):
            np.random.normal()
        second = np.random.normal()
    assert np.random.get_bit_generator() is users
    assert numbers + np.random.normal(size=6 - draws).tolist() == expected
    with isolated_rng(1):
        assert [np.random.normal(), np.random.normal()] == [first, second]


def test_blocks_in_several_threads_draw_what_each_draws_alone():
    def draw(seed):
        with isolated_rng(seed):
            drawn = []
            for _ in range(20):
                time.sleep(1e-4)  # lets other threads run
                drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
            return drawn

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(draw, range(8)))
    assert found == [draw(seed) for seed in range(8)]


def test_work_in_another_thread_is_refused_with_its_name():
    def work():
        with only_thread("training b"):
            pass

    with ThreadPoolExecutor(1, thread_name_prefix="other") as pool:
        with only_thread("training a"):
            with pytest.raises(
                ConfigError, match="training b cannot run beside training a in thread 'MainThread'.*ProcessPoolLauncher"
            ):
                pool.submit(work).result()
            work()  # nested
        pool.submit(work).result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_that_is_forked_while_a_thread_draws_can_draw():
    inside, done = threading.Event(), threading.Event()

    def hold():
        with isolated_rng(0), only_thread("a"):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    child = multiprocessing.get_context("fork").Process(target=_draw)
    child.start()
    child.join(10)
    done.set()
    thread.join(10)
    assert child.exitcode == 0


def _draw():
    with only_thread("b"), isolated_rng(1):
        random.random()
