"""Session: a study with its plan and store, from file to conclusions. What the command and the Python API share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layover import observations
from layover.bucket import Bucket
from layover.errors import Problem, StudyError, UserError, raise_all
from layover.execute import Event, Summary, execute, needed
from layover.executors import Executor, Site
from layover.export import WITHOUT_WEIGHTS
from layover.kinds.common import data_of
from layover.plan import Plan, compile_plan
from layover.run import prepare
from layover.secrets import redacted_words
from layover.step import Joint, Step
from layover.store import Store
from layover.study import Study, load_study
from layover.suits import check_extras

if TYPE_CHECKING:
    import pandas as pd

    from layover.export import Exported
    from layover.stats.correlate import Correlations
    from layover.stats.forgetting import ForgettingLinks
    from layover.stats.grid import Grids
    from layover.stats.layers import Layers
    from layover.stats.rivals import Rivalry
    from layover.stats.sizes import Sizes
    from layover.stats.transfer import Transfer

SPARE_BYTES = 64 << 20  # predictions, curves and the like, beside weights and the checkpoint


@dataclass(frozen=True)
class Session:
    """A compiled study and the store that holds its steps."""

    plan: Plan
    store: Store

    @classmethod
    def open(
        cls,
        study: Study | str | Path,
        store: str | Path = "layover-store",
        data: Sequence[str | Path] = (),
        base: Path | None = None,
        create: bool = True,
        trust_remote_code: bool = False,
        stand_in: bool = False,
    ) -> Session:
        """Compile a study (a `Study`, a file, or a preset's name) against a store.

        `data` are directories of task data; without any, those of the study's last run in this store. With
        `trust_remote_code`, the code that comes with an encoder is run. With `stand_in`, what is not found is planned
        all the same, to be looked at. Raises UserError with everything that is wrong
        with the study, its encoders and its tasks.
        """
        if not isinstance(study, Study):
            study, base = load_study(study)
        opened = Store.open(store, create=create)
        recorded = opened.study(study.name)
        directories = [Path(d) for d in (data or (recorded.data if recorded else ()))]
        return cls(compile_plan(study, base, directories, trust_remote_code, stand_in), opened)

    def keeping(self, labels: Sequence[str]) -> Session:
        """The same session, whose run also keeps the weights of these steps, for `export`: labels, keys or parts.

        A step that is finished without weights is trained again for them; its scores stay. Raises StudyError where a
        label does not name one training.
        """
        wanted = frozenset(self.plan.find(label) for label in labels)
        problems = [
            Problem(
                self.plan.labels[key],
                f"is {WITHOUT_WEIGHTS[self.plan.steps[key].kind]}, which has no weights",
                "name a training",
            )
            for key in wanted
            if self.plan.steps[key].kind in WITHOUT_WEIGHTS
        ]
        raise_all(StudyError, problems)
        return replace(self, plan=replace(self.plan, wanted=wanted))

    def check(self) -> None:
        """Everything that can be known to be wrong before spending: every row that a step will read, and the disk."""
        problems, kind = [], UserError
        todo = needed(self.plan, self.store)
        steps = [self.plan.steps[key] for key in todo]
        check_extras(steps)
        refs = {ref.name: ref for step in steps for ref in step.tasks}
        for ref in refs.values():
            try:
                data_of(ref, self.store, self.plan.places)
            except UserError as error:
                kind, problems = type(error), [*problems, *error.problems]
        raise_all(kind, problems)
        largest = max((encoder.bytes for encoder in self.plan.encoders.values()), default=0)
        kept = sum(_models(self.plan.steps[key]) for key in self.plan.kept() & set(todo))
        # a checkpoint holds the model, two moments and the best weights so far
        held = 3 + max(map(_models, steps), default=0)
        self.store.check_writable(SPARE_BYTES + (kept + held) * largest if todo else 0)

    def run(
        self,
        executor: Executor | None = None,
        on_event: Event = lambda *_: None,
        workers: int | Literal["gpus"] | None = None,
    ) -> Summary:
        """Run what is not finished. Safe to kill at any moment and to run again.

        Without an `executor`, steps run on the one that the study names, in so many `workers` (None: as many as the
        study says). Ctrl-C once lets what runs write its checkpoint before KeyboardInterrupt is raised.
        """
        with closing(executor or self._executor(workers)) as executor:  # workers get ready while the data is checked
            self.check()
            self.store.record_study(self.plan.study.name, **self.record())
            places = replace(self.plan.places, sharing=executor.sharing)
            return execute(replace(self.plan, places=places), self.store, executor, on_event)

    def _executor(self, workers: int | Literal["gpus"] | None) -> Executor:
        """The study's executor, for what there is to do."""
        placement = self.plan.study.placement
        site = Site(
            workers=placement.workers if workers is None else workers,
            trainings=sum(bool(self.plan.steps[key].tasks) for key in needed(self.plan, self.store)),
            device=placement.device,
            threads=placement.threads,
            timeout=placement.timeout,
            devices_per_step=placement.devices_per_step,
            folder=self.store.root / "jobs",
            prepare=partial(prepare, self.plan.places),
            everywhere=isinstance(self.store.shared, Bucket),
        )
        return placement.kind().make(site)

    def observations(self) -> pd.DataFrame:
        """The study's observations, missing and failed cells included."""
        self.store.refresh()
        return observations.frame(observations.collect(self.plan, self.store))

    def transfer(self, **options: Any) -> Transfer:
        """The transfer matrices against the study's direct strategy: see `layover.stats.transfer.transfer`."""
        from layover.stats.transfer import transfer

        return transfer(self.observations(), self.store.predictions, **{"against": self._baseline(), **options})

    def correlations(self, **options: Any) -> Correlations:
        """Targets' scores against probing tasks': see `layover.stats.correlate.correlations`."""
        from layover.stats.correlate import correlations

        return correlations(self.observations(), **{"against": self._baseline(), **options})

    def rivals(self, **options: Any) -> tuple[Rivalry, ...]:
        """Joint training against a stop, and the rule of size: see `layover.stats.rivals.rivals`."""
        from layover.stats.rivals import rivals

        given = {"against": self._baseline(), "predictions": self.store.predictions, **options}
        return rivals(self.observations(), **given)

    def sizes(self, **options: Any) -> Sizes:
        """Scores over sizes of targets and of intermediate tasks: see `layover.stats.sizes.sizes`."""
        from layover.stats.sizes import sizes

        return sizes(self.observations(), **{"against": self._baseline(), **options})

    def layers(self, **options: Any) -> Layers:
        """Scores over layers drawn anew, permuted or frozen: see `layover.stats.layers.layers`."""
        from layover.stats.layers import layers

        return layers(self.observations(), **{"against": self._baseline(), **options})

    def grid(self, **options: Any) -> Grids:
        """All trials of a grid by condition, whose strategies share their first word: see `layover.stats.grid.grid`."""
        from layover.stats.grid import grid

        return grid(self.observations(), **options)

    def forgetting(self, **options: Any) -> ForgettingLinks:
        """What checkpoints forgot against transfer: see `layover.stats.forgetting.forgetting`."""
        from layover.stats.forgetting import forgetting

        return forgetting(self.observations(), **{"against": self._baseline(), **options})

    def _baseline(self) -> str:
        """The study's direct strategy."""
        against = self.plan.baseline()
        if against is None:
            hint = 'add: direct = { kind = "direct" }'
            raise StudyError(Problem("strategies", "none is direct, so there is nothing to measure against", hint))
        return against

    def report(
        self, path: str | Path, tables: Path | None = None, figures: Path | None = None, examples: int = 0
    ) -> Path:
        """Write the report as one self-contained HTML page, and its tables and figures into folders where given.

        The page shows the text of so many `examples` (12 at most) of each cell, of those that its stop turned.
        """
        from layover.report.build import build
        from layover.report.inputs import inputs_of
        from layover.report.outputs import write_figures, write_tables

        self.store.refresh()
        path, inputs = Path(path), inputs_of(self.plan, self.store, examples)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(build(inputs), encoding="utf-8")
        for write, folder in ((write_tables, tables), (write_figures, figures)):
            if folder:
                write(inputs, folder)
        return path

    def export(self, label: str, folder: str | Path) -> Exported:
        """Write a finished step's model as a standard transformers directory: see `layover.export.export`."""
        from layover.export import export

        return export(self.store, self.plan.find(label), Path(folder))

    def record(self) -> dict[str, Any]:
        """What the store is to remember of the study."""
        plan = self.plan
        return {
            "study": redacted_words(plan.study.words()),
            "data": [str(directory.resolve()) for directory in plan.places.data],
            "labels": plan.labels,
            "steps": plan.steps,
            "cells": [score.__dict__ for score in plan.scores],
        }


def _models(step: Step) -> int:
    """How many models a step may leave: a joint training has the best weights of each task."""
    return len(step.tasks) if isinstance(step, Joint) else 1


def run(study: Study | str | Path, **options: Any) -> Session:
    """Run a study and return its session, with observations, transfer matrices and report.

    Takes the options of `Session.open`. Raises UserError where the input is wrong; failed steps are in
    `session.observations()` with their status.
    """
    session = Session.open(study, **options)
    session.run()
    return session
