"""One contract for this process, other processes and a real Dask cluster: results in order, errors in their place."""

from __future__ import annotations

import importlib
import logging
import time

import pytest

from firstlight.errors import FirstlightError, InputError, UsageError
from firstlight.run.execution import Executor, Failure

TASKS = '''
import os, time
from pathlib import Path
from firstlight.errors import InputError, UsageError

def square(x):
    return x * x

def slow_first(x):
    time.sleep(0.2 if x == 0 else 0)
    return x

def fails_on_two(x):
    if x == 2:
        raise ZeroDivisionError("two")
    return x

def count_calls(task):
    """Fails `task.failures` times, then succeeds; every call leaves a file."""
    folder, failures, kind = task
    calls = len(list(Path(folder).iterdir()))
    (Path(folder) / str(calls)).touch()
    if calls < failures:
        raise InputError("bad file", where="a.root", hint="another") if kind == "input" else OSError("disk")
    return calls

def dies_on_two(x):
    if x == 2:
        os._exit(9)
    return x

def wrong_usage(x):
    raise UsageError("no such column")

def threads(_):
    import numba
    return os.environ.get("POLARS_MAX_THREADS"), numba.config.NUMBA_NUM_THREADS

def interrupted(_):
    raise KeyboardInterrupt

def unpicklable(_):
    return lambda: None
'''


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A module that other processes can import."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "firstlight_test_tasks.py").write_text(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        yield importlib.import_module("firstlight_test_tasks")


@pytest.fixture(scope="module")
def cluster(tasks):
    """A real cluster of two processes."""
    distributed = pytest.importorskip("distributed")
    with (
        pytest.MonkeyPatch.context() as patch,
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as running,
    ):
        patch.setattr(logging.getLogger("distributed"), "level", logging.CRITICAL)
        yield running


@pytest.fixture(params=["serial", "jobs", "dask"])
def executor(request) -> Executor:
    if request.param == "dask":
        return Executor(dask=request.getfixturevalue("cluster").scheduler_address)
    return Executor(jobs=2 if request.param == "jobs" else 1)


def test_results_come_in_the_order_of_the_tasks(executor, tasks):
    assert list(executor.map(tasks.slow_first, range(7))) == list(range(7))


def test_no_task_is_no_result(executor, tasks):
    assert list(executor.map(tasks.square, [])) == []


def test_error_takes_the_place_of_its_result_and_stops_nothing(executor, tasks):
    results = list(executor.map(tasks.fails_on_two, range(5)))
    assert [r for r in results if not isinstance(r, Failure)] == [0, 1, 3, 4]
    assert isinstance(results[2].error, ZeroDivisionError)
    assert "fails_on_two" in results[2].trace


@pytest.mark.parametrize(("failures", "calls", "good"), [(0, 1, True), (1, 2, True), (2, 2, False)])
def test_failed_task_is_tried_once_more(executor, tasks, tmp_path, failures, calls, good):
    (result,) = executor.map(tasks.count_calls, [(tmp_path, failures, "disk")])
    assert len(list(tmp_path.iterdir())) == calls
    assert isinstance(result, Failure) != good


def test_bad_input_is_not_tried_again_and_keeps_its_words(executor, tasks, tmp_path):
    (result,) = executor.map(tasks.count_calls, [(tmp_path, 5, "input")])
    assert len(list(tmp_path.iterdir())) == 1
    assert isinstance(result.error, InputError)
    assert (result.error.what, result.error.where, result.error.hint) == ("bad file", "a.root", "another")


def test_every_task_is_told_when_it_is_done(executor, tasks):
    done = []
    assert len(list(executor.map(tasks.square, range(5), done.append))) == 5
    assert done == list(range(5))


def test_cluster_whose_worker_dies_gives_a_clear_error_and_no_hang(tasks):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as own:
        start = time.monotonic()
        with pytest.raises(FirstlightError, match="a worker process died") as caught:
            list(Executor(dask=own.scheduler_address).map(tasks.dies_on_two, range(40)))
        took = time.monotonic() - start
        # the nanny starts another worker; a cluster cannot be closed while it does
        with distributed.Client(own) as client:
            client.wait_for_workers(1, timeout=60)
    assert took < 30
    assert caught.value.hint


def test_task_that_kills_its_worker_is_named_and_stops_no_other(tasks):
    start = time.monotonic()
    results = list(Executor(jobs=2).map(tasks.dies_on_two, range(12)))
    assert time.monotonic() - start < 30
    failed = [index for index, result in enumerate(results) if isinstance(result, Failure)]
    assert failed == [2]
    assert "worker process died" in str(results[2].error)
    assert results[2].error.hint


def test_all_tasks_may_kill_their_workers(tasks):
    results = list(Executor(jobs=2).map(tasks.dies_on_two, [2] * 3))
    assert all("worker process died" in str(result.error) for result in results)


def test_wrong_parameters_are_wrong_for_all_tasks(executor, tasks):
    with pytest.raises(UsageError, match="no such column"):
        list(executor.map(tasks.wrong_usage, range(3)))


def test_result_that_cannot_travel_is_a_failure_of_its_task(tasks):
    """What cannot be pickled on the way back must not stop the others, nor hang."""
    results = list(Executor(jobs=2).map(tasks.unpicklable, range(2)))
    assert all(isinstance(result, Failure) for result in results)


def test_workers_use_one_kernel_thread_each(tasks):
    import os

    before = dict(os.environ)
    assert list(Executor(jobs=2).map(tasks.threads, range(2))) == [("1", 1)] * 2
    assert dict(os.environ) == before


def test_iteration_that_is_left_early_ends(tasks):
    results = Executor(jobs=2).map(tasks.square, range(1000))
    assert next(results) == 0
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 10


def test_interrupt_is_no_failure(tasks):
    with pytest.raises(KeyboardInterrupt):
        list(Executor().map(tasks.interrupted, [1]))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "tcp://no-such-host.invalid:8786"])
def test_scheduler_that_does_not_answer_is_named(address, tasks, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("firstlight.run.execution._PATIENCE", 1.0)
    with pytest.raises(UsageError, match="no Dask scheduler answers") as caught:
        list(Executor(dask=address).map(tasks.square, [1]))
    assert caught.value.where == address


@pytest.mark.parametrize("jobs", [0, -1])
def test_number_of_jobs_is_at_least_one(jobs):
    with pytest.raises(UsageError, match="at least 1"):
        Executor(jobs=jobs)
