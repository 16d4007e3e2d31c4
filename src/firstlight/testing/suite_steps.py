"""Conformance of what computes: steps do not see where chunks, spans, files and processes begin and end."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

from firstlight.data.cube import HistogramCube
from firstlight.data.schema import Block, Table, merge_columns
from firstlight.run.reading import _Task
from firstlight.steps.step import ProductStep
from firstlight.testing.equality import assert_products_equal, differences, product_difference, sorted_rows
from firstlight.testing.suite_sources import tell
from firstlight.testing.workbench import halved

if TYPE_CHECKING:
    from firstlight.run.store import Run
    from firstlight.steps.step import Product
    from firstlight.testing.workbench import Workbench

__all__ = ["StepTests"]


class StepTests:
    """Tests of the steps of the chain."""

    bench: Workbench
    tolerance: float

    def test_chunk_size_does_not_matter(self) -> None:
        """One event at a time, seven, or all: the products are the same."""
        n_events = max(found.n_events for found in self.bench.descriptions)
        for size in (1, 7, n_events + 1):
            self._same(self.bench.run(chunk_events=size), f"with {size} events in a chunk")

    def test_spans_do_not_matter(self) -> None:
        """A file read in several stretches gives the products of the file read at once."""
        n_events = max(found.n_events for found in self.bench.descriptions)
        for size in {max(n_events // 3, 1), max(2 * n_events // 3, 1)}:
            self._same(self.bench.run(span_events=size), f"in spans of {size} events")

    def test_file_order_does_not_matter(self) -> None:
        """What is kept for each channel does not depend on the order of the files."""
        backwards = self.bench.run(self.bench.files[::-1])
        for name, product in per_channel(self.bench.reference).items():
            other = sorted_rows(backwards[name].value)
            what = product_difference(product, other, tolerance=self.tolerance)
            assert not what, f"{name} depends on the order of the files: {what}"

    def test_processes_give_the_same(self) -> None:
        """Two processes give what one gives, bit for bit."""
        size = max(max(found.n_events for found in self.bench.descriptions) // 2, 1)
        assert_products_equal(
            self.bench.run(span_events=size),
            self.bench.run(span_events=size, jobs=2),
            message="the products of two processes differ from those of one: map() must not use global state",
        )

    def test_steps_need_what_they_say(self) -> None:
        """Each step alone, with only the columns it asks for, gives what it gives among all."""
        alone_of = {step.name: self.bench.products([(step, own)]) for step, own in self.bench.chunk_steps}
        together = self.bench.products()
        for step, _ in self.bench.chunk_steps:
            alone = alone_of[step.name]
            whole = {name: value for name, value in together.items() if name.startswith(f"{step.name}/")}
            found = differences(alone, whole)
            assert not found, (
                f"step {step.name} alone gives something else: is needs() complete?{tell(found)}"
            )

    def test_steps_follow_a_cut_on_events(self) -> None:
        """Hits go with their event, whatever the size of chunks and whichever steps are run."""
        path = self.bench.files[0]
        cut = halved(self.bench.source_of(path), self.bench.descriptions[0])
        if cut is None:
            return
        together = self.bench.products(selection=cut)
        small = self.bench.products(selection=cut, chunk_events=5)
        found = differences(together, small, tolerance=self.tolerance)
        assert not found, f"with a cut on events the products depend on the size of chunks:{tell(found)}"
        for step, parameters in self.bench.chunk_steps:
            alone = self.bench.products([(step, parameters)], selection=cut)
            whole = {name: value for name, value in together.items() if name.startswith(f"{step.name}/")}
            found = differences(alone, whole)
            assert not found, (
                f"with a cut on events step {step.name} alone gives something else:{tell(found)}"
            )

    def test_merge_is_associative(self) -> None:
        """(a + b) + c = a + (b + c), nothing is changed in place, and partial results can be pickled."""
        path = self.bench.files[0]
        source, n_events = self.bench.source_of(path), self.bench.descriptions[0].n_events
        wanted = merge_columns([step.needs(parameters) for step, parameters in self.bench.chunk_steps])
        known = {name: columns for name, columns in wanted.items() if name in source.schemas}
        extra = {name: columns for name, columns in wanted.items() if name not in source.schemas}
        chunks = self.bench.chunks(path, {**known, **extra}, chunk_events=max(-(-n_events // 3), 1))
        if self.bench.plan.selection:
            chunks = [self.bench.plan.selection.apply(chunk)[0] for chunk in chunks]
        assert len(chunks) > 2, f"{path.name} has {n_events} events: let make_files() write three or more"
        for step, parameters in self.bench.chunk_steps:

            def finish(partial: Any, step: Any = step, parameters: Any = parameters) -> Any:
                return dict(step.finish(partial, parameters, self.bench.context))

            a, b, c = (step.map(chunk, parameters, self.bench.context) for chunk in chunks[:3])
            again = step.map(chunks[0], parameters, self.bench.context)
            found = differences(finish(a), finish(again))
            assert not found, f"map() of step {step.name} gives something else a second time:{tell(found)}"
            left, right = step.merge(step.merge(a, b), c), step.merge(a, step.merge(b, c))
            found = differences(finish(left), finish(right), tolerance=self.tolerance)
            assert not found, (
                f"merge() of step {step.name} is not associative, or changes a part:{tell(found)}"
            )
            found = differences(finish(a), finish(again))
            assert not found, f"merge() of step {step.name} changes its first argument in place:{tell(found)}"
            copied = ForkingPickler.loads(ForkingPickler.dumps(left))  # as it travels between processes
            found = differences(finish(left), finish(copied))
            assert not found, (
                f"the partial result of step {step.name} does not survive pickling:{tell(found)}"
            )

    def test_parts_can_be_pickled(self) -> None:
        """Steps, sources and tasks travel to other processes: everything in them stands at module level."""
        plan, context = self.bench.plan, self.bench.context
        span = self.bench.chunks(self.bench.files[0])[0].span
        source = self.bench.source_of(self.bench.files[0])
        task = _Task(span, source, tuple(self.bench.chunk_steps), plan.selection, context, None)
        parts = {"the task": task, "the context": context}
        parts |= {f"step {step.name}": step for step in self.bench.detector.load("chain")}
        parts |= {f"source {name}": source for name, source in self.bench.sources.items()}
        for name, part in parts.items():
            try:
                ForkingPickler.loads(ForkingPickler.dumps(part))
            except (PicklingError, AttributeError, TypeError) as error:
                what = f"{name} cannot be pickled ({error}): no lambdas, no functions inside functions"
                raise AssertionError(what) from error

    def test_one_event_is_enough(self) -> None:
        """The chain, its checks and its figures work on a single event."""
        run = self.bench.run(max_events=1, plots=True)
        assert run.record["steps"], "no step ran on a single event"

    def test_products_are_described(self) -> None:
        """Tables have descriptions of their columns, axes have names, and per-channel arrays begin with it."""
        n_channels = len(self.bench.plan.channels)
        for name, stored in self.bench.reference.items():
            value = stored.value
            if isinstance(value, Table) and not name.startswith("channels/"):
                silent = [column.name for column in value.schema.columns if not column.description]
                assert not silent, f"{name}: columns without a description: {silent}"
            if isinstance(value, Block | HistogramCube):
                axes = [axis if isinstance(axis, str) else axis.name for axis in value.axes]
                assert "channel" not in axes[1:], f"{name}: the axis 'channel' must be the first of {axes}"
                shape = value.values.shape
                if axes[0] == "channel":
                    assert shape[0] == n_channels, f"{name} has {shape[0]} channels, the map has {n_channels}"

    def test_chain_is_in_order(self) -> None:
        """Names of steps are unique, and a step stands after those whose products it reads."""
        made: set[str] = set()
        for step in self.bench.detector.load("chain"):
            assert step.name not in made, f"two steps are called {step.name!r}"
            if isinstance(step, ProductStep):
                early = [need for need in step.needs if need.split("/")[0] not in made]
                assert not early, f"step {step.name} needs {early}, which no step before it makes"
            made.add(step.name)
        clash = made & set(self.bench.detector.load("options").model_fields)
        assert not clash, f"options and steps share a name, one would hide the other: {sorted(clash)}"

    def _same(self, run: Run, how: str) -> None:
        hint = "map() must not depend on where chunks end, and sums of floats depend on their order: sum whole numbers"
        assert_products_equal(
            self.bench.reference, run, tolerance=self.tolerance,
            message=f"the products {how} differ ({hint}, or set `tolerance`):",
        )  # fmt: skip


def per_channel(run: Run) -> dict[str, Product]:
    """Return the products of a run that have an entry for each channel, tables with sorted rows."""
    found = {}
    for name, stored in run.items():
        value = stored.value
        if isinstance(value, Table):
            keep = "channel" in value.frame.columns
        else:
            first = value.axes[0]
            keep = (first if isinstance(first, str) else first.name) == "channel"
        if keep:
            found[name] = sorted_rows(value)
    return found
