"""Jobs on all cores: order within a lane, errors, and torch's own threads left as they were."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from atlas.workers import run_each, run_here, run_lanes


def lane(name, log, n_stages, n_jobs):
    for stage in range(n_stages):
        yield [partial(log.append, (name, stage)) for _ in range(n_jobs)]
        yield []


def test_stages_of_a_lane_follow_each_other():
    log = []
    run_lanes([lane(name, log, 20, 3) for name in "abc"])
    for name in "abc":
        assert [stage for who, stage in log if who == name] == [s for s in range(20) for _ in "123"]


def test_here_and_on_workers_do_the_same_jobs():
    here, there = [], []
    run_here(lane("a", here, 5, 2))
    run_lanes([lane("a", there, 5, 2)])
    assert here == there


def test_an_error_is_raised_after_running_jobs_ended():
    ended = threading.Event()

    def slow():
        failed.wait(5)
        ended.set()

    failed = threading.Event()

    def fail():
        failed.set()
        raise ValueError("no")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="no"):
            run_each([slow, fail])
        assert ended.is_set()
        run_each([partial(int, "1")])  # the workers go on working
    finally:
        torch.set_num_threads(before)


def test_an_error_between_stages_is_raised_after_running_jobs_ended():
    begun, log = threading.Event(), []

    def slow():
        begun.set()
        threading.Event().wait(0.2)
        log.append("ended")

    def broken():
        yield [partial(begun.wait, 5)]
        raise ValueError("no")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="no"):
            run_lanes([iter([[slow]]), broken()])
    finally:
        torch.set_num_threads(before)
    assert log == ["ended"]


def test_workers_have_one_thread_and_others_keep_theirs():
    before, seen = torch.get_num_threads(), []
    run_each([lambda: seen.append(torch.get_num_threads()) for _ in range(4)])
    assert seen == [1] * 4
    assert torch.get_num_threads() == before
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen[-1] == before


def test_jobs_of_a_job_run_in_its_own_thread():
    seen = []

    def outer():
        here = threading.get_ident()
        run_each([lambda: seen.append(threading.get_ident() == here) for _ in range(3)])

    run_each([outer, outer])
    assert seen == [True] * 6
