"""Conformance of runs: bad files, provenance, moving, reuse."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic
import pytest

from firstlight.errors import InputsRefusedError
from firstlight.run.store import Run, open_run
from firstlight.steps.step import ChunkStep, ProductStep
from firstlight.testing.equality import assert_products_equal
from firstlight.view.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from firstlight.steps.step import Step
    from firstlight.testing.workbench import Workbench

__all__ = ["RunTests"]


class RunTests:
    """Tests of run directories."""

    bench: Workbench
    tolerance: float
    changes: ClassVar[Mapping[str, Mapping[str, Any]]]

    def test_bad_file_does_not_stop_the_others(self) -> None:
        """A file that cannot be used is refused by name, and the rest is as if it had not been there."""
        bad = self.bench.new_folder("bad") / f"bad_{self.bench.files[0].name}"
        bad.mkdir() if self.bench.files[0].is_dir() else bad.touch()
        with pytest.raises(InputsRefusedError) as caught:
            self.bench.run([bad, *self.bench.files])
        assert bad.name in str(caught.value), "the error does not name the file that was refused"
        run = self.bench.run([bad, *self.bench.files], allow_bad=1)
        states = [entry["status"] for entry in run.record["inputs"]]
        assert states == ["refused"] + ["used"] * len(self.bench.files), f"inputs are recorded as {states}"
        assert run.record["inputs"][0]["reason"], "the refused file has no reason in run.json"
        assert_products_equal(
            self.bench.reference, run, tolerance=self.tolerance,
            message="a refused file changes what the others give: use names of files (context.files), not numbers",
        )  # fmt: skip

    def test_provenance_is_complete(self) -> None:
        """`run.json` says what was run on what, and every product says how it was made."""
        run = self.bench.reference
        activity = run.record["activity"]
        for key in ("started", "ended", "host", "agent", "python", "packages"):
            assert activity.get(key), f"run.json: activity.{key} is missing"
        for entry in run.record["inputs"]:
            for key in ("path", "status", "size", "digest", "source", "kind"):
                assert entry.get(key), f"run.json: the input {entry.get('path')} has no {key}"
        for name, product in run.items():
            for key in ("key", "wasGeneratedBy", "version", "parameters", "used"):
                assert key in product.provenance, f"product {name} has no {key}"
            assert run.has(name, product.provenance["key"]), (
                f"the file of {name} does not hold what run.json says"
            )
        listed = {product.path for product in run.values()}
        there = {path for path in (run.folder / "products").rglob("*") if path.is_file()}
        assert there == listed, f"files that run.json does not know: {sorted(there - listed)}"
        for step in self.bench.detector.load("chain"):
            if step.name in run.record["steps"]:
                entry = run.record["steps"][step.name]
                # a step on products may find that these data are not for it
                assert entry["products"] or isinstance(step, ProductStep), f"step {step.name} made nothing"
                assert entry["version"] == step.version, (
                    f"step {step.name}: version {entry['version']} in run.json"
                )

    def test_run_can_be_moved(self) -> None:
        """A run directory works wherever it is, and names no place."""
        run = self.bench.copied_reference()
        moved = run.folder.with_name(f"{run.folder.name}-moved")
        shutil.move(run.folder, moved)
        opened = open_run(moved)
        assert_products_equal(
            self.bench.reference, opened, message="after moving the run its products differ"
        )
        write_report(opened)
        record = {**opened.record, "activity": {**opened.record["activity"], "command": []}}
        text = json.dumps(record)
        home = str(self.bench.folder)
        assert home not in text, (
            f"run.json names an absolute path: ...{text[max(text.find(home) - 120, 0) : text.find(home) + 120]}..."
        )
        for entry in opened.record.get("figures", []):
            assert (moved / entry["file"]).is_file(), f"figure {entry['file']} is lost when the run is moved"

    def test_second_run_reuses(self) -> None:
        """The same again computes nothing."""
        run = self.bench.run()
        before = _times(run)
        again = self.bench.run(folder=run.folder)
        computed = [name for name, entry in again.record["steps"].items() if not entry.get("reused", True)]
        assert not computed, (
            f"the same command computed {', '.join(computed)} again: keys must not depend on time, order or place"
        )
        changed = [name for name, time in _times(again).items() if time != before.get(name)]
        assert not changed, f"products were written again although nothing changed: {changed}"

    def test_changed_parameter_recomputes_what_depends_on_it(self) -> None:
        """After a change only the step and those that read its products are computed."""
        chain: list[Step] = self.bench.detector.load("chain")
        run = self.bench.run()
        for kind in (ChunkStep, ProductStep):
            chosen = next(
                (
                    (step, change)
                    for step in chain
                    if isinstance(step, kind) and (change := self._change(step))
                ),
                None,
            )
            if chosen is None:
                continue
            step, change = chosen
            again = self.bench.run(folder=run.folder, configuration={step.name: change})
            steps = again.record["steps"]
            computed = {name for name, entry in steps.items() if not entry.get("reused", True)}
            expected = {name for name in _dependent(step, chain) if name in steps}
            assert computed == expected, (
                f"{step.name} was changed to {change}: {sorted(computed)} were computed, {sorted(expected)} depend on it"
            )
            run = self.bench.run(folder=run.folder)
            assert_products_equal(
                self.bench.reference,
                run,
                message=f"changing {step.name} and back does not give the same products",
            )

    def _change(self, step: Step) -> dict[str, Any] | None:
        if step.name in self.changes:
            return dict(self.changes[step.name])
        values = step.parameters()
        for name in step.parameters.model_fields:
            value = getattr(values, name)
            other = _another(value)
            if other is None or other == value:
                continue
            try:
                step.parameters.model_validate({**values.model_dump(), name: other})
            except pydantic.ValidationError:
                continue
            return {name: other}
        return None


def _dependent(step: Step, chain: list[Step]) -> set[str]:
    found = {step.name}
    for other in chain:
        if isinstance(other, ProductStep) and found & {
            name.split("/")[0] for name in (*other.needs, *other.uses)
        }:
            found.add(other.name)
    return found


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return 1.1 * value if isinstance(value, float) else None


def _times(run: Run) -> dict[str, int]:
    return {
        name: (run.folder / product.provenance["file"]).stat().st_mtime_ns
        for name, product in run.items()
        if not name.startswith("channels/")
    }
