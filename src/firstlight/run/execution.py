"""Where work is done: here, in other processes, or on a Dask cluster.

One contract for all three: a module-level function, a list of tasks, and the results in the order of the
tasks. A task that fails is tried once more, then its error takes the place of its result, so that one bad
file never stops the others. What is bad about an input (`InputError`) is not tried again.
"""

from __future__ import annotations

import os
import pickle
import traceback
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from firstlight.errors import FirstlightError, InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Executor", "Failure"]

_ONE_THREAD = (
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)
# seconds in which a scheduler answers
_PATIENCE = 20.0


@dataclass(frozen=True)
class Failure:
    """The error of a task, in place of its result.

    Parameters
    ----------
    error : Exception
        What went wrong.
    trace : str
        Where, for the log.
    """

    error: Exception
    trace: str


@dataclass(frozen=True)
class Executor:
    """How tasks are run.

    Parameters
    ----------
    jobs : int
        Number of processes; 1 means this one.
    dask : str, optional
        Address of a Dask scheduler (``tcp://host:8786``); takes precedence over `jobs`.
    retries : int
        How often a failed task is tried again.
    """

    jobs: int = 1
    dask: str | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1:
            what = f"number of jobs must be at least 1, not {self.jobs}"
            raise UsageError(what)

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        done: Callable[[Any], None] | None = None,
    ) -> Iterator[Any]:
        """Yield the result of each task, or its `Failure`, in the order of the tasks.

        Parameters
        ----------
        function : callable
            Module-level, so that other processes can import it.
        tasks : sequence
            Its arguments, one at a time; picklable.
        done : callable, optional
            Called with each task when its result is taken.
        """
        if self.dask is not None:
            results = self._on_dask(function, tasks)
        elif self.jobs > 1 and len(tasks) > 1:
            results = self._in_processes(function, tasks)
        else:
            results = (_guarded(function, task, self.retries) for task in tasks)
        for task, result in zip(tasks, results, strict=True):
            if done is not None:
                done(task)
            yield result

    def _in_processes(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        from concurrent.futures import ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool
        from multiprocessing import get_context

        def pool_of(workers: int) -> ProcessPoolExecutor:
            return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

        def alone(task: Any) -> Any:
            # which task killed its worker is only known when it is tried by itself
            with pool_of(1) as single:
                try:
                    return _taken(single.submit(_guarded, function, task, self.retries))
                except BrokenProcessPool:
                    what = "the worker process died, twice: it may have run out of memory"
                    return Failure(FirstlightError(what, hint="fewer --jobs"), what)

        workers = min(self.jobs, len(tasks))
        finished = 0
        with one_thread_each():
            while finished < len(tasks):
                pool = pool_of(workers)
                try:
                    submit: Callable[..., Any] = partial(pool.submit, _guarded, function)  # type: ignore[call-arg]
                    for result in _windowed(submit, tasks[finished:], self.retries, 2 * workers):
                        finished += 1
                        yield result
                except BrokenProcessPool:
                    finished += 1
                    yield alone(tasks[finished - 1])
                finally:
                    # what was not begun is not waited for when the work is given up
                    pool.shutdown(wait=False, cancel_futures=True)

    def _on_dask(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        try:
            from distributed import CancelledError, Client
            from distributed.scheduler import KilledWorker
        except ImportError:
            package, extra = "distributed", "dask"
            raise MissingExtraError(package, extra) from None
        try:
            client: Any = Client(self.dask, timeout=_PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            what = f"no Dask scheduler answers: {error}"
            raise UsageError(what, where=self.dask, hint="start one with: dask scheduler") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=3 * _PATIENCE)
            except TimeoutError as error:
                what = "the Dask scheduler has no workers"
                raise UsageError(what, where=self.dask, hint="start one with: dask worker ADDRESS") from error
            threads = sum(client.nthreads().values())
            submit = partial(client.submit, _guarded, function, pure=False)
            try:
                yield from _windowed(submit, tasks, self.retries, 4 * max(threads, 1))
            except (KilledWorker, CancelledError, OSError) as error:
                what = f"a worker process died, or the cluster was lost: {error}"
                raise FirstlightError(what, where=self.dask, hint="workers with more memory") from error


def _windowed(submit: Callable[..., Any], tasks: Sequence[Any], retries: int, size: int) -> Iterator[Any]:
    """Yield results in order with only so many tasks under way: the partial results of all would not fit."""
    waiting: deque[Any] = deque()
    for task in tasks:
        waiting.append(submit(task, retries))
        if len(waiting) >= size:
            yield _taken(waiting.popleft())
    while waiting:
        yield _taken(waiting.popleft())


def _taken(future: Any) -> Any:
    """Return the result of a future; one that cannot travel between processes is the failure of its task."""
    try:
        return future.result()
    except (TypeError, AttributeError, ValueError, pickle.PickleError) as error:
        return Failure(error, traceback.format_exc())


def _guarded(function: Callable[[Any], Any], task: Any, retries: int) -> Any:
    for attempt in range(retries + 1):
        try:
            return function(task)
        except UsageError:
            # wrong parameters are wrong for every task
            raise
        except InputError as error:
            return Failure(error, traceback.format_exc())
        except Exception as error:  # noqa: BLE001  (reported in place of the result, never lost)
            if attempt == retries:
                return Failure(error, traceback.format_exc())
    return None


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started inside use one kernel thread each."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
