"""A detector's chain from raw files to a run directory.

Looks at the inputs, reads them once for all steps that need it, makes the products that are not there yet
under the same key, judges them, and writes figures, files of the original tool and the report.
"""

from __future__ import annotations

import logging
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.data.schema import Column, Table, TableSchema
from firstlight.detector import parts_of
from firstlight.errors import (
    ConfigError,
    InputError,
    InputsRefusedError,
    SelectionError,
    StoreError,
    UsageError,
)
from firstlight.run import provenance
from firstlight.run.config import StrictModel, build, configuration_model
from firstlight.run.finishing import Products, Settings, judge
from firstlight.run.provenance import InputRecord
from firstlight.run.reading import (
    look,
    read_files,
    refused_by,
    served_by,
    skip_beyond,
    spans_of,
    unique_names,
    with_conditions,
)
from firstlight.run.store import Run
from firstlight.steps.step import ChunkStep, Context, ProductStep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from firstlight.data.channels import ChannelMap
    from firstlight.detector import Description, Detector, Plan
    from firstlight.steps.step import Product, Step

__all__ = ["Products", "Settings", "configuration_of", "process"]

log = logging.getLogger("firstlight")

# version of a step whose products were made elsewhere
IMPORTED = 0
# tables that are kept in memory for the steps that follow [bytes]
_SMALL = 12 * 2**20


def configuration_of(detector: Detector) -> type[StrictModel]:
    """Return the model of a detector's configuration file.

    The options of the detector stand at the top, the parameters of each step in a table of its name.
    """
    options: type[StrictModel] = detector.load("options")
    steps = tuple((step.name, step.parameters) for step in detector.load("chain"))
    return configuration_model(detector.name, options, steps)


def process(
    detector: Detector,
    paths: Sequence[Path],
    output: Path,
    configuration: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    *,
    max_events: int | None = None,
    where: str | Path | None = None,
    steps: Collection[str] | None = None,
) -> Run:
    """Run a detector's chain on some files and return the run.

    Parameters
    ----------
    detector : Detector
        Whose chain.
    paths : sequence of Path
        Input files.
    output : Path
        Run directory; products that are there under the same key are kept.
    configuration : mapping, optional
        Options and step parameters as in a configuration file.
    settings : Settings, optional
        How to run.
    max_events : int, optional
        Events read at most, of the first files.
    where : str or Path, optional
        Where the configuration comes from, for messages.
    steps : collection of str, optional
        Of the steps that follow reading only these are made; all by default. Products of others stay while they
        are up to date.

    Returns
    -------
    Run
        Written and closed.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    InputError
        If no input can be used.
    InputsRefusedError
        If more inputs are refused than tolerated; the run is written all the same.
    """
    settings = settings or Settings()
    config = build(configuration_of(detector), configuration or {}, where)
    if not paths:
        what = "no input file"
        raise UsageError(what)
    with Run.writing(output, detector.name) as run, logged(run.folder / "run.log"):
        return Chain(detector, run, config, settings).run_all(list(paths), max_events, steps)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write the log of what is done to a file."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise StoreError(what, where=path, hint="another --output") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        handler.close()


class Chain:
    """One execution of a chain; what its stages share."""

    def __init__(self, detector: Detector, run: Run, config: StrictModel, settings: Settings) -> None:
        self.detector = detector
        self.run = run
        self.config = config
        self.settings = settings
        self.steps: list[Step] = list(detector.load("chain"))
        self.old_steps: dict[str, Any] = run.record.get("steps", {})
        self.new_steps: dict[str, Any] = {}
        self.fresh: dict[str, Product] = {}

    def run_all(self, paths: list[Path], max_events: int | None, steps: Collection[str] | None = None) -> Run:
        """Look at the inputs, read them, and do all that follows."""
        activity = provenance.activity(self.settings.command)
        log.info("start %s on %d files", self.detector.name, len(paths))
        self.look_at_further_inputs()
        descriptions, records = look(
            paths, self.detector.load("sources"), self.settings.executor, self.settings.progress
        )
        usable = [found for found in descriptions if found is not None]
        if not usable:
            raise _nothing_usable(records)
        plan: Plan = self.detector.load("plan")(self.config, usable)
        self.look_at_columns(plan)
        self.look_into_further_inputs(plan.channels)
        records = skip_beyond([refused_by(record, plan.refused) for record in records], max_events)
        records = [with_conditions(record, plan.conditions) for record in records]
        files = unique_names([record.path for record in records])
        conditions = tuple(record.conditions for record in records)
        self.context = Context(plan.channels, self.config, tuple(files), bool(plan.selection), conditions)
        records = self.read(paths, descriptions, records, plan, max_events)
        if all(record.status == "refused" for record in records):
            raise _nothing_usable(records)
        notes = list(plan.notes)
        if max_events is not None:
            notes.append(f"not the whole data: at most {max_events:,} events were read (--max-events)")
        self.complete(activity, plan.channels, notes, records, steps)
        refused = [record for record in records if record.status == "refused"]
        if len(refused) > self.settings.allow_bad:
            raise _too_many_refused(refused, len(records), self.run)
        return self.run

    def look_at_columns(self, plan: Plan) -> None:
        """Find a mistyped column before it is held against every single file."""
        sources = self.detector.load("sources")
        schemas = [source.schemas for source in sources]
        parts = sorted({name for source in sources for name in parts_of(source)})
        wishes: list[tuple[type[UsageError], str, Mapping[str, tuple[str, ...]]]] = [
            (SelectionError, "selection", plan.selection.needs())
        ]
        wishes += [
            (ConfigError, f"step {step.name}", step.needs(self.parameters(step)))
            for step in self.steps
            if isinstance(step, ChunkStep)
        ]
        for error, where, needs in wishes:
            for table, columns in needs.items():
                if table not in parts:
                    raise error.unknown("table", table, parts, where=where)
                known = [name for found in schemas if table in found for name in found[table].names]
                for column in columns:
                    if known and column not in known:
                        raise error.unknown("column", column, known, where=f"{where}, table {table}")

    def look_into_further_inputs(self, channels: ChannelMap) -> None:
        """Find a malformed mask or reference before hours of reading rather than after them."""
        for step in self.steps:
            if isinstance(step, ProductStep) and step.validate is not None:
                step.validate(self.parameters(step), channels)

    def look_at_further_inputs(self) -> None:
        """Find a missing mask or reference before hours of reading rather than after them."""
        for step in self.steps:
            if isinstance(step, ProductStep) and step.inputs is not None:
                for path in step.inputs(self.parameters(step)):
                    if not Path(path).exists():
                        what = f"file that step {step.name} needs does not exist"
                        raise ConfigError(what, where=path)

    def complete(
        self,
        activity: dict[str, Any],
        channels: ChannelMap,
        notes: Sequence[str],
        records: list[InputRecord],
        steps: Collection[str] | None = None,
    ) -> None:
        """Do all that follows the reading."""
        self.keep_channels(channels)
        # before any step: one that fails leaves a run that says what it is of
        self.describe_run(activity, channels, notes, records)
        self.derive_all(steps)
        self.run.record["steps"] = self.new_steps
        self.end(activity)

    def run_imported(
        self, path: Path, plan: Plan, products: Mapping[str, Product], steps: Collection[str] | None = None
    ) -> Run:
        """Keep products that were made elsewhere, and do all that follows the reading."""
        activity = provenance.activity(self.settings.command)
        digest = provenance.digest_file(path)
        records = [InputRecord(str(path), "used", "", provenance.size_of(path), digest, kind="imported")]
        self.context = Context(plan.channels, self.config, (path.name,), cut=True)
        for name, product in products.items():
            step, _, part = name.partition("/")
            key = provenance.product_key(
                step, IMPORTED, [self.option_values(), plan.channels.digest], [digest]
            )
            self.run.put(
                name, product, {"key": key, "wasGeneratedBy": f"import of {path.name}", "used": ["inputs"]}
            )
            entry = self.new_steps.setdefault(
                step, {"version": IMPORTED, "key": key, "parameters": {}, "products": []}
            )
            entry["products"].append(f"{step}/{part}")
        self.run.record["cut_flow"] = []
        self.complete(activity, plan.channels, plan.notes, records, steps)
        return self.run

    def run_again(self, steps: Collection[str] | None = None) -> Run:
        """Derive, judge, draw and report again from the products of reading."""
        derived = {step.name for step in self.steps if isinstance(step, ProductStep)}
        self.new_steps = {name: entry for name, entry in self.old_steps.items() if name not in derived}
        self.derive_all(steps)
        record = self.run.record
        activity = provenance.activity(self.settings.command)
        earlier = [*record.get("earlier_activities", []), record["activity"]]
        record.update(
            steps=self.new_steps,
            configuration=self.config.model_dump(mode="json"),
            activity=activity,
            earlier_activities=earlier,
        )
        self.end(activity)
        return self.run

    def end(self, activity: dict[str, Any]) -> None:
        """Judge, export, draw and report."""
        judge(self.detector, self.run, self.context, self.settings)
        activity["ended"] = provenance.now()
        self.run.save()
        if self.settings.plots:
            from firstlight.view.report import write_report

            write_report(self.run)

    def keep_channels(self, channels: ChannelMap) -> None:
        """Keep the channel map with the products, so that the run can be read without its inputs."""
        tables = {"map": channels.frame, "groups": channels.groups}
        key = provenance.product_key("channels", 1, [channels.name, channels.version, channels.digest], [])
        about = {"key": key, "wasGeneratedBy": "channels", "version": 1, "parameters": {}, "used": []}
        for name, frame in tables.items():
            if frame.height:
                columns = tuple(
                    Column(column, dtype, "", nullable=True) for column, dtype in frame.schema.items()
                )
                self.run.put(f"channels/{name}", Table(frame, TableSchema(f"channel {name}", columns)), about)
        names = [f"channels/{name}" for name, frame in tables.items() if frame.height]
        self.new_steps["channels"] = {"version": 1, "key": key, "parameters": {}, "products": names}

    # -- steps that read ---------------------------------------------------------------------------------

    def read(
        self,
        paths: list[Path],
        descriptions: list[Description | None],
        records: list[InputRecord],
        plan: Plan,
        max_events: int | None,
    ) -> list[InputRecord]:
        """Read the inputs once for all steps whose products are not there; return what became of each."""
        used = [
            [record.digest, name, dict(record.conditions)]
            for record, name in zip(records, self.context.files, strict=True)
            if record.status == "used"
        ]
        # a source that reads the same file otherwise than before has another version
        versions = {source.name: source.version for source in self.detector.load("sources")}
        # options and channels count towards every key: steps see them through the context
        common = [
            self.option_values(),
            plan.channels.name,
            plan.channels.version,
            plan.channels.digest,
            max_events,
            versions,
            used,
        ]
        names = {source.name: source for source in self.detector.load("sources")}
        sources = [names[record.source] if record.status == "used" else None for record in records]
        possible = {
            step.name
            for source in {source.name: source for source in sources if source is not None}.values()
            for step, _ in served_by(
                source, [(step, self.parameters(step)) for step in self.steps if isinstance(step, ChunkStep)]
            )
        }
        wanted: list[tuple[ChunkStep, StrictModel]] = []
        keys: dict[str, str] = {}
        refused: dict[str, str] = {}
        for step in self.steps:
            if not isinstance(step, ChunkStep):
                continue
            if step.name not in possible:
                log.info("step %s left out: no input has what it reads", step.name)
                continue
            parameters = self.parameters(step)
            key = provenance.product_key(
                step.name, step.version, [parameters.model_dump(mode="json"), common], []
            )
            keys[step.name] = key
            if self.kept(step, key):
                refused.update(self.new_steps[step.name].get("refused", {}))
            else:
                wanted.append((step, parameters))
        if wanted:
            n_events = [
                -1 if record.status != "used" or found is None else found.n_events
                for found, record in zip(descriptions, records, strict=True)
            ]
            spans = spans_of(
                paths, n_events, [source or next(iter(names.values())) for source in sources], max_events
            )
            start = time.monotonic()
            reading = read_files(
                spans,
                {index: source for index, source in enumerate(sources) if source is not None},
                wanted,
                self.context,
                selection=plan.selection,
                executor=self.settings.executor,
                progress=self.settings.progress,
            )
            seconds = time.monotonic() - start
            log.info("read %d spans in %.2f s", len(spans), seconds)
            names_of = dict(zip(map(str, paths), self.context.files, strict=True))
            refused.update({names_of[path]: reason for path, reason in reading.refused.items()})
            flow = [] if reading.cut_flow is None else reading.cut_flow.to_polars().to_dicts()
            self.run.record["cut_flow"] = flow
            partials = dict(reading.partials)
            del reading
            for step, parameters in wanted:
                if step.name in partials:
                    # taken out: what was collected and what is made of it need not be in memory together for long
                    products = step.finish(partials.pop(step.name), parameters, self.context)
                    self.keep(step, keys[step.name], parameters, products, seconds, refused=refused)
        by_path = {str(path): refused.get(name) for path, name in zip(paths, self.context.files, strict=True)}
        return [refused_by(record, {path: why for path, why in by_path.items() if why}) for record in records]

    # -- steps on products -------------------------------------------------------------------------------

    def derive_all(self, wanted: Collection[str] | None) -> None:
        """Make the products of the steps that are wanted (all by default), and forget what is not up to date."""
        for step in self.steps:
            if isinstance(step, ProductStep):
                self.derive(step, make=wanted is None or step.name in wanted)
        earlier = {*self.old_steps, *self.run.record.get("outdated", [])} - set(self.new_steps)
        self.run.record["outdated"] = [name for name in self.possible() if name in earlier]
        for name in [name for name in self.run if name.split("/")[0] not in self.new_steps]:
            log.info("product %s dropped: it is not up to date", name)
            self.run.drop(name)

    def possible(self) -> list[str]:
        """Return the steps on products that could be made, now or after others; inputs of another kind have no use for some."""
        owners = {step.name for step in self.steps}
        names: list[str] = []
        for step in self.steps:
            if not isinstance(step, ProductStep):
                continue
            absent = [name for name in step.needs if name not in self.run]
            if all(
                name.split("/")[0] in owners and name.split("/")[0] in names for name in absent
            ) and not any(name.split("/")[0] in self.new_steps for name in absent):
                names.append(step.name)
        return names

    def derive(self, step: ProductStep, *, make: bool) -> None:
        """Make the products of a step that follows from other products, if they are not there."""
        entry = self.old_steps.get(step.name)
        if not make and entry is not None and entry["version"] == IMPORTED:
            # made elsewhere: there is nothing here that it could be out of date with
            self.kept(step, entry["key"], anyway=False)
            return
        missing = [name for name in step.needs if name not in self.run or self.outdated(name)]
        if missing:
            log.info("step %s left out: it needs %s", step.name, ", ".join(missing))
            return
        key, there = self.key_of(step)
        if self.kept(step, key, anyway=make and self.settings.force) or not make:
            return
        parameters = self.parameters(step)
        start = time.monotonic()
        with self.watched(step, key):
            products = step.run({name: self.value(name) for name in there}, parameters, self.context)
            self.keep(step, key, parameters, products, time.monotonic() - start)

    def value(self, name: str) -> Product:
        """Return a product: the one that was just made, if it is small enough to be kept, else from its file."""
        fresh = self.fresh.get(name)
        return self.run[name].value if fresh is None else fresh

    def outdated(self, name: str) -> bool:
        """Return whether a product belongs to a step that was not found up to date."""
        owner = name.split("/")[0]
        return owner not in self.new_steps and any(step.name == owner for step in self.steps)

    def key_of(self, step: ProductStep) -> tuple[str, list[str]]:
        """Return the key of what a step would make now, and the products that it would use."""
        parameters = self.parameters(step)
        uses = [name for name in step.uses if name in self.run and not self.outdated(name)]
        there = [*step.needs, *uses]
        used = [str(self.run[name].provenance["key"]) for name in there]
        if step.inputs is not None:
            used += [_digest_any(Path(path)) for path in step.inputs(parameters)]
        plain = [parameters.model_dump(mode="json"), self.option_values()]
        return provenance.product_key(step.name, step.version, plain, used), there

    @contextmanager
    def watched(self, step: Step, key: str) -> Iterator[None]:
        """Write down that a step has begun, and with what error it failed; `keep` takes the entry away."""
        unfinished = self.run.record.setdefault("unfinished", {})
        unfinished[step.name] = {"state": "begun", "key": key, "began": provenance.now()}
        # it survives the process; what survives a power failure need not know how far a step had come
        self.run.save(flush=False)
        try:
            yield
        except BaseException as error:
            state = "failed" if isinstance(error, Exception) else "stopped"
            told = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
            entry = unfinished.setdefault(step.name, {"key": key})
            entry.update(state=state, ended=provenance.now(), **told)
            self.run.save()
            raise

    def parameters(self, step: Step) -> StrictModel:
        """Return the parameters of a step."""
        found = getattr(self.config, step.name, None)
        return found if isinstance(found, step.parameters) else step.parameters()

    def option_values(self) -> dict[str, Any]:
        """Return the options that products depend on, as plain values."""
        # how things are drawn is a matter of the field `view` and of no product
        names = set(self.detector.load("options").model_fields) - {"view"}
        return {key: value for key, value in self.config.model_dump(mode="json").items() if key in names}

    def kept(self, step: Step, key: str, *, anyway: bool | None = None) -> bool:
        """Return whether the products of a step are there under a key, and need not be made `anyway` (with ``--force``)."""
        entry = self.old_steps.get(step.name)
        force = self.settings.force if anyway is None else anyway
        if force or entry is None or entry["key"] != key:
            return False
        if not all(self.run.has(name, key) for name in entry["products"]):
            return False
        self.new_steps[step.name] = {**entry, "reused": True}
        self.run.record.get("unfinished", {}).pop(step.name, None)
        log.info("step %s: kept (key %s)", step.name, key)
        return True

    def keep(
        self,
        step: Step,
        key: str,
        parameters: StrictModel,
        products: Mapping[str, Product],
        seconds: float,
        **more: Any,
    ) -> None:
        """Write the products of a step, and the record of the run."""
        for name in self.old_steps.get(step.name, {}).get("products", []):
            if name.split("/")[1] not in products:
                self.run.drop(name)
        names = [f"{step.name}/{product}" for product in products]
        plain = parameters.model_dump(mode="json")
        about = {"key": key, "wasGeneratedBy": step.name, "version": step.version, "parameters": plain}
        for name, product in zip(names, products.values(), strict=True):
            if isinstance(product, Table) and product.frame.estimated_size() < _SMALL:
                self.fresh[name] = product
            self.run.put(
                name,
                product,
                {
                    **about,
                    "used": list(getattr(step, "needs", ())) if isinstance(step, ProductStep) else ["inputs"],
                },
            )
        self.new_steps[step.name] = {
            "version": step.version, "key": key, "parameters": plain, "products": names,
            "seconds": round(seconds, 3), "reused": False, **more,
        }  # fmt: skip
        self.run.record.get("unfinished", {}).pop(step.name, None)
        # the record is written after every step, so that a run that is killed carries on from here
        self.run.record["steps"] = {**self.old_steps, **self.new_steps}
        self.run.save()
        log.info("step %s: %d products in %.2f s", step.name, len(names), seconds)

    # -- judgement, figures, report ----------------------------------------------------------------------

    def describe_run(
        self,
        activity: dict[str, Any],
        channels: ChannelMap,
        notes: Sequence[str],
        records: list[InputRecord],
    ) -> None:
        """Write down what was run on what."""
        record = self.run.record
        record.update(
            title=self.detector.title,
            maturity=self.detector.maturity,
            activity=activity,
            configuration=self.config.model_dump(mode="json"),
            channels={
                "name": channels.name,
                "version": channels.version,
                "n_channels": len(channels),
                "layout": channels.layout,
                "labels": dict(channels.labels),
            },
            inputs=[entry.to_dict(self.run.folder) for entry in records],
            steps={**self.old_steps, **self.new_steps},
            notes=list(notes),
            files=list(self.context.files),
            cut=self.context.cut,
        )


def _digest_any(path: Path) -> str:
    if path.is_dir():
        path = path / "run.json"
    return provenance.digest_file(path)


def _nothing_usable(records: Sequence[InputRecord]) -> InputError:
    reasons = "".join(f"\n  {record.path}: {record.reason}" for record in records[:20])
    more = f"\n  ... and {len(records) - 20} more" if len(records) > 20 else ""
    what = f"none of {len(records)} input files can be used:{reasons}{more}"
    return InputError(what)


def _too_many_refused(refused: Sequence[InputRecord], total: int, run: Run) -> InputsRefusedError:
    reasons = "".join(f"\n  {record.path}: {record.reason}" for record in refused[:20])
    what = f"{len(refused)} of {total} input files were refused, the others are in {run.folder}:{reasons}"
    error = InputsRefusedError(what, hint=f"--allow-bad {len(refused)} to tolerate them")
    error.run = run
    return error
