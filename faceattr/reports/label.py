"""Report page of a label run: counts, reject reasons, score histograms, throughput over time."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.figure
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.data.formats.json_files import damage_named, decode_versioned
from faceattr.data.inputs.folder_files import describe_files
from faceattr.data.runs.commit import OK
from faceattr.data.runs.limit import describe_limit, read_waited_for
from faceattr.data.runs.run_attributes import Decision, read_decisions
from faceattr.data.runs.version import Manifest, RunRecord
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store
from faceattr.reports.pages import render_page, report_key
from faceattr.reports.plots.histogram import draw_bars
from faceattr.reports.plots.pictures import to_data_uri
from faceattr.reports.strips.images import Strip
from faceattr.reports.strips.label import Place
from faceattr.vqa.questions import AskedAttribute, QuestionSet

if TYPE_CHECKING:  # it imports scikit-learn, a second that a label run's report can do without
    from faceattr.evaluation.agreement import RunsAgreement

matplotlib.use("svg")

_NUM_BINS = 50
_MOST_RATES = 60
# Blocks arrive in bursts: over a shorter time, the first and the last of them say nothing about a rate.
_LEAST_WORK_S = 2.0
_BLUE, _ORANGE, _GRAY = "#2f6db3", "#d9772b", "#9aa3ad"


class LabelStatistics:
    """Additive counts over label tables; memory does not depend on the number of rows."""

    def __init__(self, questions: QuestionSet) -> None:
        self.questions = questions
        self.num_rows = 0
        self.label_counts: dict[str, np.ndarray] = {
            asked.attribute.name: np.zeros(len(asked.attribute.classes), np.int64) for asked in questions.asked
        }
        self.label_counts |= {rule.name: np.zeros(2, np.int64) for rule in questions.derived}
        self.unknown: dict[str, int] = dict.fromkeys(self.label_counts, 0)
        # Of these, the rows in which an unknown answer was the likeliest: they have no score.
        self.unanswered: dict[str, int] = {asked.attribute.name: 0 for asked in questions.asked}
        # Of the rows that have a mass: some models give none.
        self.mass_sums: dict[str, float] = {asked.attribute.name: 0.0 for asked in questions.asked}
        self.mass_counts: dict[str, int] = dict.fromkeys(self.mass_sums, 0)
        # Scores of binary attributes; for multiclass ones the score of the chosen class.
        self.histograms: dict[str, np.ndarray] = {
            asked.attribute.name: np.zeros(_NUM_BINS, np.int64) for asked in questions.asked
        }
        self.examples: dict[str, list[tuple[str, str]]] = {}

    @property
    def num_labelled(self) -> int:
        """Number of scored rows."""
        name = self.questions.asked[0].attribute.name
        return int(self.label_counts[name].sum()) + self.unknown[name]

    def observe(self, table: pa.Table) -> None:
        """Adds a label table."""
        self.num_rows += len(table)
        bad = table.filter(pc.not_equal(table["status"], OK))
        for status, uri, error in zip(*(bad[name].to_pylist() for name in ("status", "uri", "error")), strict=True):
            examples = self.examples.setdefault(status, [])
            if len(examples) < 3:
                examples.append((uri, error or ""))
        good = table.filter(pc.equal(table["status"], OK))
        for name in self.label_counts:
            labels = good[name].drop_null().to_numpy()
            self.label_counts[name] += np.bincount(labels, minlength=len(self.label_counts[name]))
            self.unknown[name] += good[name].null_count
        for asked in self.questions.asked:
            name = asked.attribute.name
            self.unanswered[name] += good[f"{name}_score"].null_count
            mass = good[f"{name}_mass"]
            self.mass_sums[name] += pc.sum(mass).as_py() or 0.0
            self.mass_counts[name] += len(mass) - mass.null_count
            self.histograms[name] += np.histogram(_top_scores(good, asked), bins=_NUM_BINS, range=(0.0, 1.0))[0]

    def positive_rate(self, name: str) -> float | None:
        """Returns the share of 1 among the known labels of a binary attribute."""
        counts = self.label_counts[name]
        return float(counts[1] / counts.sum()) if counts.sum() else None

    def mean_mass(self, name: str) -> float | None:
        """Returns the mean answer mass of an attribute; None if the model gives none."""
        count = self.mass_counts[name]
        return self.mass_sums[name] / count if count else None


def _top_scores(table: pa.Table, asked: AskedAttribute) -> np.ndarray:
    scores = table[f"{asked.attribute.name}_score"]
    if asked.attribute.is_yes_no:
        return np.asarray(scores.drop_null().to_numpy())
    flat = scores.combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, len(asked.attribute.classes)).max(axis=1)) if len(flat) else flat


def open_statistics(record: RunRecord) -> LabelStatistics:
    """Returns empty counts for the questions of a label run."""
    return LabelStatistics(QuestionSet.from_json(record.fingerprint["questions"]))


def write_label_report(
    store: Store,
    record: RunRecord,
    manifest: Manifest,
    statistics: LabelStatistics,
    strips: Mapping[str, Sequence[Strip[Place]]] | None = None,
    *,
    agreement: "RunsAgreement | None" = None,
) -> None:
    """Writes the page into the run folder.

    Args:
        store: the run folder.
        record: the run.
        manifest: its published version.
        statistics: counts of all rows.
        strips: attribute -> its images, if they were asked for.
        agreement: of the runs that this one was combined from; None for a run with a model of its own.
    """
    keys = [entry.key for entry in store.list("sessions/")]
    sessions = [decode_versioned(store.get(key), join_uri(store.uri, key)) for key in keys]
    with damage_named(f"a file below {join_uri(store.uri, 'sessions/')}"):
        sessions.sort(key=lambda session: float(session["started"]))
    page = render_label_report(record, manifest, statistics, sessions, strips or {}, agreement=agreement)
    store.put(report_key(manifest.version), page.encode())


def render_label_report(
    record: RunRecord,
    manifest: Manifest,
    statistics: LabelStatistics,
    sessions: Sequence[dict[str, Any]],
    strips: Mapping[str, Sequence[Strip[Place]]],
    *,
    agreement: "RunsAgreement | None" = None,
) -> str:
    """Renders the page as a single HTML file with embedded plots; `strips`: attribute -> its images, if asked for."""
    attributes = []
    decisions = read_decisions(record, manifest)
    for asked in statistics.questions.asked:
        name = asked.attribute.name
        counts, decision = statistics.label_counts[name], decisions.get(name, Decision())
        attributes.append(
            {
                "name": name,
                "questions": statistics.questions.wordings(asked),
                "classes": list(zip(asked.attribute.classes, counts.tolist(), strict=True)),
                "unknown": statistics.unknown[name],
                "unanswered": statistics.unanswered[name],
                "unknown_answers": asked.unknown,
                "mass": statistics.mean_mass(name),
                "strips": strips.get(name, ()),
                "decision": str(decision) if asked.attribute.is_yes_no else None,
                "histogram": _draw_histogram(statistics.histograms[name], asked, decision),
            }
        )
    derived = [
        {
            "name": rule.name,
            "rule": rule.rule,
            "classes": list(zip(("no", "yes"), statistics.label_counts[rule.name].tolist(), strict=True)),
            "unknown": statistics.unknown[rule.name],
        }
        for rule in statistics.questions.derived
    ]
    waited_for = read_waited_for(sessions)
    rate = mean_rate(sessions)
    return render_page(
        "label_report.html",
        record=record,
        manifest=manifest,
        num_labelled=manifest.status_counts.get(OK, 0),
        reasons=[(status, count) for status, count in manifest.status_counts.items() if status != OK],
        examples=statistics.examples,
        other_files=describe_files(manifest.change.get("files", record.source.get("files"))),
        has_strips=bool(strips),
        attributes=attributes,
        derived=derived,
        rate=_draw_rate(sessions) if rate is not None else None,
        mean_rate=rate,
        limit=describe_limit(waited_for) if waited_for is not None else None,
        combined_runs=agreement.addresses if agreement is not None else (),
        agreements=agreement.finish() if agreement is not None else (),
    )


def _draw_histogram(counts: np.ndarray, asked: AskedAttribute, decision: Decision) -> str:
    figure = matplotlib.figure.Figure(figsize=(5.2, 1.9), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0.0, 1.0, _NUM_BINS + 1)
    binary = asked.attribute.is_yes_no
    colours = [_ORANGE if binary and edge >= decision.threshold else _BLUE for edge in edges[:-1]]
    draw_bars(axes, counts, edges, colours)
    if decision.abstain is not None and binary:
        axes.axvspan(*decision.abstain, color=_GRAY, alpha=0.35, lw=0, label="abstain")
        axes.legend(frameon=False, fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("P(yes)" if binary else "score of the chosen class", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return to_data_uri(figure)


def mean_rate(sessions: Sequence[dict[str, Any]]) -> float | None:
    """Returns the images per second from the first rows of each session to its last, without start-up.

    Args:
        sessions: as the run folder holds them; their samples are (seconds of work, rows done).

    Returns:
        None if those times add up to less than two seconds.
    """
    spans = [(session["samples"][0], session["samples"][-1]) for session in sessions if session["samples"]]
    seconds = sum(last_s - first_s for (first_s, _), (last_s, _) in spans)
    return sum(last - first for (_, first), (_, last) in spans) / seconds if seconds >= _LEAST_WORK_S else None


def _draw_rate(sessions: Sequence[dict[str, Any]]) -> str | None:
    """Draws images per second over working time, with sessions one after the other."""
    times, rates, offset = [], [], 0.0
    for session in sessions:
        samples = _thin_out(session["samples"])
        for (before_s, before), (after_s, after) in itertools.pairwise(samples):
            if after_s > before_s:
                times += [offset + before_s, offset + after_s]
                rates += [(after - before) / (after_s - before_s)] * 2
        offset += samples[-1][0] if samples else 0.0
    if not times:
        return None
    figure = matplotlib.figure.Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(times, rates, color=_BLUE, lw=1.4)
    axes.set_xlabel("seconds of work", fontsize=8)
    axes.set_ylabel("images/s", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return to_data_uri(figure)


def _thin_out(samples: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Keeps the first, the last and a few samples between: blocks finish in bursts, so short-time rates are noise."""
    step = len(samples) // _MOST_RATES + 1
    return [*samples[:-1:step], *samples[-1:]]
