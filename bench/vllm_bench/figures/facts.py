"""A run's rows, split once into what the summary and the verdict both need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.beside.said_file import Said
from ..records.by_class import class_names, info_of_class, place_of
from ..records.of_run import OfRun
from ..records.row import Rows
from ..records.run_info import RunInfo
from ..scenario.load import Load
from ..stats.batches import Batches, Values, batches_of
from ..stats.distribution import filled, floats, min_samples, quantile
from .client import lost_workers, workers
from .digits import counted
from .in_flight import InFlight, as_if_alone, in_flight, waited_for_cap
from .jobs.jobs import JOB_TIMES, Jobs
from .machines.dealt import waited_by_machine
from .machines.machine import info_of_machine, machines_of, rows_by_machine, senders_of
from .token_gaps import TokenReads
from .window import Window, closed_window, open_window


@dataclass(frozen=True)
class Facts(OfRun):
    """A run's rows, JSON and samples; derived values are computed when they are first needed."""

    frame: Rows
    info: RunInfo | None
    reads: TokenReads | None = None  # when each token of the successes came
    reads_absent: str = "the tokens' stamps were not kept"  # why reads is None
    gpu_rows: Rows | None = None  # one GpuRow per row; None: not sampled
    server_rows: Rows | None = None  # one ServerRow per row; None: not sampled
    said: Said | None = None  # all that the server said; None: not sampled, or an older run
    whole: bool = False  # figures of all requests, as other tools have them: there is no window
    of: Facts | None = None  # the run that these are facts of a class of
    class_name: str | None = None  # which one
    machine: str | None = None  # or of a machine: which one

    # The classes of users.

    @cached_property
    def classes(self) -> dict[str, Facts]:
        """The facts of each class; none: the run has no classes."""
        names = () if self.of else class_names(self.frame, self.info)
        return {name: self.of_class(name) for name in names}

    def of_class(self, name: str) -> Facts:
        """Return the facts of a class: its rows, with its own settings and load.

        It has the run's window, in which the load of all classes was held. What is of the run as a
        whole (the server's counters, samples, the client's health) it hasn't.
        """
        mine = self.frame.of(self.frame["class"] == name)
        frame = as_if_alone(mine, *place_of(self.info, name))
        info = info_of_class(self.info, name, len(frame), self.planned - self.rows)
        return self._part(frame, info, class_name=name)

    def _part(self, frame: Rows, info: RunInfo | None, **which: Any) -> Facts:
        reads = self.reads.among(frame["request_index"]) if self.reads else None
        return Facts(
            frame,
            info,
            reads if reads and reads.t_ns.size else None,
            "" if self.reads else self.reads_absent,
            whole=self.whole,
            of=self,
            **which,
        )

    # The machines that sent it.

    @cached_property
    def machines(self) -> dict[str, Facts]:
        """The facts of each machine; none: there was one alone, or these are of a part."""
        of_each = {} if self.of else rows_by_machine(self.frame, self.info)
        return {name: self._of_machine(name, rows) for name, rows in of_each.items()}

    def _of_machine(self, name: str, rows: NDArray[np.intp]) -> Facts:
        """Return the facts of a machine: its rows, streams and health, in the run's window."""
        info = info_of_machine(self.info, name, rows.size)
        return self._part(self.frame.of(rows), info, machine=name)

    @cached_property
    def by_the_clock(self) -> Rows:
        """The rows of requests that a schedule sent: without those of classes with own streams."""
        closed = np.zeros(self.rows, dtype=bool)
        for name, part in self.classes.items():
            closed |= (self.frame["class"] == name) & (not part.load.is_open)
        return self.frame.of(~closed) if closed.any() else self.frame

    # The settings.

    @cached_property
    def load(self) -> Load:
        """The rate that the schedule should have, or the streams to hold open."""
        rate = self.info.request_rate if self.info else _first(floats(self.frame["request_rate"]))
        if rate is not None:  # float: JSON doesn't know numpy's numbers
            return Load("requests/s", float(rate), self.plan_number("speed"))
        streams = self.info.concurrency if self.info else _first(floats(self.frame["concurrency"]))
        return Load("streams", int(streams or 0))

    @property
    def ramp_s(self) -> float:
        """How long an open loop's rate rises from 0 at the start; 0: it doesn't."""
        return self.plan_number("ramp_s") or 0.0

    @property
    def cap(self) -> int | None:
        """The most requests that an open loop has in flight; None: no limit."""
        cap = self.plan_number("max_in_flight")
        return None if cap is None else int(cap)

    @property
    def streaming(self) -> bool:
        """Whether replies were streamed, of any class; by the rows where no settings are known."""
        if self.classes:
            return any(part.streaming for part in self.classes.values())
        asked = self.setting("stream")
        return bool(asked) if asked is not None else bool((self.frame["token_events"] > 0).any())

    @property
    def choices(self) -> int:
        """Completions that each request asks for (`n`); of classes the most."""
        own = (self.setting("extra_body") or {}).get("n") or 1
        return max((part.choices for part in self.classes.values()), default=own)

    # The outcomes of the requests.

    @property
    def rows(self) -> int:
        """Requests that ended, however they did."""
        return len(self.frame)

    @property
    def planned(self) -> int:
        return self.info.num_requests if self.info else self.rows

    @property
    def arrivals(self) -> int:
        """Requests that should be answered: those planned, or more where there are more rows.

        A request without a row, because the run broke off, counts as not answered.
        """
        return max(self.rows, self.planned)

    @property
    def lost_some(self) -> bool:
        """Whether who was to send was lost: what it had under way is in no row."""
        lost_machines = any(machine.lost is not None for machine in machines_of(self.info))
        return lost_machines or bool(lost_workers(self.info))

    @property
    def missing_in_words(self) -> str:
        """How many requests have no row because who was to send them was lost.

        By time there were to be as many as streams could send: only those that began are known.
        """
        missing = self.planned - self.rows
        open_ended = self.setting("duration_s") is not None and not self.load.is_open
        if missing > 0:
            least = "at least " * open_ended
            return f"{least}{counted(missing, 'request')} without a row"
        if open_ended:
            return "nobody knows how many requests have no row"
        return "every request has a row"

    @cached_property
    def failed(self) -> NDArray[np.bool_]:
        """One value per row."""
        return self.frame.has("error_kind") | self.frame.has("error")

    @cached_property
    def succeeded(self) -> Rows:
        return self.frame.of(~self.failed)

    @cached_property
    def failures(self) -> Rows:
        return self.frame.of(self.failed)

    @cached_property
    def failure_kinds(self) -> list[str]:
        """The `error_kind` of each of the failures."""
        return [kind or "unknown" for kind in self.failures["error_kind"]]

    @cached_property
    def cancelled(self) -> int:
        """Requests that the client itself gave up because the run was stopped."""
        return int((self.frame["error_kind"] == "cancelled").sum())

    def total(self, column: str) -> int:
        """Return a column's sum over all successes of the run."""
        return int(floats(self.succeeded[column]).sum())

    # The population: the requests that the figures are of.

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Whether each row's request was sent inside the window; all, where there is no window.

        In an open loop it counts when a request was due: a late send must not take it out.
        """
        if self.window is None:
            return np.ones(self.rows, dtype=bool)
        return self.window.holds(self._came_s)

    @cached_property
    def _came_s(self) -> Values:
        due = self.frame["t_scheduled_s"]
        return due if (self.of or self).load.is_open else filled(self.frame["t_sent_s"], due)

    @cached_property
    def counted_rows(self) -> Rows:
        return self.frame.of(self.counted)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Whether each row counts and succeeded: the only rows whose times are compared."""
        return self.counted & ~self.failed

    def times(self, column: str) -> NDArray[Any]:
        """Return a column, one value per row; `…_from_schedule_ms` is from when it was due."""
        if column in JOB_TIMES:
            return self.jobs.over_rows(column) if self.jobs else np.full(self.rows, np.nan)
        found = self.frame[column.replace("_from_schedule_ms", "_ms")]
        return found + self.frame["send_lag_ms"] if "_from_schedule" in column else found

    @cached_property
    def jobs(self) -> Jobs | None:
        """The plays of sessions; None: the run has none."""
        return Jobs.of(self.frame)

    def values(self, column: str) -> Values:
        """Return a column's values over the counted successes, absences left out; see `times`."""
        return floats(self.times(column)[self.measured])

    @cached_property
    def batches(self) -> Batches:
        """The batch of each row of the run: ten parts of the counted requests, by their time."""
        found = np.zeros(self.rows, dtype=np.int64)
        found[self.counted] = batches_of(self._came_s[self.counted])
        return found

    @cached_property
    def counted_reads(self) -> TokenReads | None:
        """The reads of the counted successes; None as `reads`, and where they have none."""
        if self.reads is None or self.window is None:
            return self.reads
        index = self.frame["request_index"]
        found = self.reads.among(index[self.measured])
        return found if found.t_ns.size else None

    def batch_of(self, requests: NDArray[np.int32]) -> Batches:
        """Return the batch of each of these request_index."""
        index = self.frame["request_index"]
        of_index = np.zeros(int(index.max(initial=-1)) + 1, dtype=np.int64)
        of_index[index] = self.batches
        return of_index[requests]

    # Medians for limits: computed from any number of samples, and never printed.

    @cached_property
    def ttft_p50_ms(self) -> float | None:
        return quantile(self.values("ttft_ms"), 50)

    @cached_property
    def latency_p50_ms(self) -> float | None:
        return quantile(self.values("latency_ms"), 50)

    @cached_property
    def token_gap_p50_ms(self) -> float | None:
        """Median ITL, or median TPOT where that is longer.

        Where tokens come in bursts, half of all gaps are close to 0.
        """
        tpot_ms = quantile(self.values("tpot_ms"), 50)
        reads = self.counted_reads
        if tpot_ms is None or reads is None:
            return tpot_ms
        itl_ms = quantile(reads.itl_ms, 50, reads.tokens_after_gap)
        return max(tpot_ms, itl_ms or 0.0)

    # When it happened.

    @cached_property
    def flight(self) -> InFlight | None:
        return in_flight(self.frame)

    @cached_property
    def window(self) -> Window | None:
        """The steady window: the time in which the load was held; None: the run is too short."""
        if self.of is not None:
            return self.of.window
        if self.whole:
            return None
        if self.load.is_open:
            arrivals_s = floats(self.frame["t_scheduled_s"])
            latency_p95_ms = quantile(floats(self.succeeded["latency_ms"]), 95)
            closed = [(p.frame, p.load.value) for p in self.classes.values() if not p.load.is_open]
            found = open_window(arrivals_s, self.ramp_s, latency_p95_ms, closed)
        else:
            found = closed_window(self.frame, self.load.value)
        found = self._without_the_first(found)
        if found is None or int(found.holds(self._came_s).sum()) < min_samples(50):
            return None  # not even a median of the requests in it
        return found

    def _without_the_first(self, found: Window | None) -> Window | None:
        """Return the window from the first request that a search wants counted."""
        dropped = int(self.info.experiment.get("dropped") or 0) if self.info else 0
        if found is None or not 0 < dropped < self.rows:
            return found
        start_s = max(found.start_s, float(np.partition(self._came_s, dropped)[dropped]))
        return Window(start_s, found.end_s) if start_s < found.end_s else None

    @cached_property
    def whole_run(self) -> Window | None:
        """From the first send to the last end; None where nothing was sent, or took any time."""
        if self.of is not None:
            return self.of.whole_run
        sent_s = floats(self.frame["t_sent_s"])
        if sent_s.size == 0:
            return None
        found = Window(float(sent_s.min()), float(self.frame["t_end_s"].max()))
        return found if found.length_s > 0 else None

    @property
    def span_s(self) -> float | None:
        return self.whole_run.length_s if self.whole_run else None

    @property
    def judged(self) -> Window | None:
        """The steady window, or the whole run where there is none."""
        return self.window or self.whole_run

    @property
    def judged_s(self) -> float:
        return self.judged.length_s if self.judged else 0.0

    @property
    def judged_in_words(self) -> str:
        return f"{'steady window' if self.window else 'whole run'} of {self.judged_s:.1f} s"

    @cached_property
    def waited_for_cap(self) -> NDArray[np.bool_]:
        """Whether each row's request did; each class has the cap for itself."""
        if self.of is not None and self.machine is not None and self.cap is not None:
            mine: NDArray[np.bool_] = self.of.frame["machine"] == self.machine
            return self.of.waited_for_cap[mine]
        found = np.zeros(self.rows, dtype=bool)
        if self.classes:
            for name, part in self.classes.items():
                found[self.frame["class"] == name] = part.waited_for_cap
            return found
        if self.cap is None:
            return found
        frame = as_if_alone(self.frame, *(self.plan("lanes") or (0, 1)))
        senders = senders_of((self.of or self).info)
        if senders:
            return waited_by_machine(frame, self.cap, senders)
        return waited_for_cap(frame, self.cap, max(1, len(workers(self.info))))


def _first(values: Values) -> float | None:
    """Return the value of a column of equal values; None where it is empty."""
    return float(values[0]) if values.size else None
