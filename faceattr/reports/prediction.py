"""Report page of a prediction run: counts, reject reasons, score histograms, agreement with another run."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.inputs.folder_files import describe_files
from faceattr.data.runs.commit import OK
from faceattr.data.runs.run_attributes import Decision, read_decisions
from faceattr.data.runs.version import Manifest, RunRecord
from faceattr.data.stores.store import Store
from faceattr.evaluation.agreement import Agreement
from faceattr.reports.pages import render_page, report_key
from faceattr.reports.plots.evaluation import draw_score_histogram

_NUM_BINS = 50
_YEARS = (0.0, 100.0)


class PredictionStatistics:
    """Additive counts over prediction tables; memory does not depend on the number of rows."""

    def __init__(self, attributes: AttributeSet) -> None:
        self.attributes = attributes
        names = [each.name for each in attributes.attributes] + [rule.name for rule in attributes.derived]
        self.counts: dict[str, np.ndarray] = {
            each.name: np.zeros(len(each.classes), np.int64) for each in attributes.attributes
        }
        self.counts |= {rule.name: np.zeros(2, np.int64) for rule in attributes.derived}
        # P(yes) of binary attributes, the score of the chosen class of others, years for ages.
        self.histograms = {name: np.zeros(_NUM_BINS, np.int64) for name in names}
        self.examples: dict[str, list[tuple[str, str]]] = {}

    def observe(self, table: pa.Table) -> None:
        """Adds a prediction table."""
        bad = table.filter(pc.not_equal(table["status"], OK))
        for status, uri, error in zip(*(bad[name].to_pylist() for name in ("status", "uri", "error")), strict=True):
            examples = self.examples.setdefault(status, [])
            if len(examples) < 3:
                examples.append((uri, error or ""))
        good = table.filter(pc.equal(table["status"], OK))
        for each in self.attributes.attributes:
            if each.is_years:
                self.histograms[each.name] += np.histogram(good[each.name].to_numpy(), _NUM_BINS, _YEARS)[0]
                continue
            self.counts[each.name] += np.bincount(good[each.name].to_numpy(), minlength=len(each.classes))
            self.histograms[each.name] += np.histogram(_shown_scores(good, each), _NUM_BINS, (0.0, 1.0))[0]
        for rule in self.attributes.derived:
            self.counts[rule.name] += np.bincount(good[rule.name].to_numpy(), minlength=2)


def _shown_scores(table: pa.Table, attribute: Attribute) -> np.ndarray:
    scores = table[f"{attribute.name}_score"]
    if not pa.types.is_list(scores.type):
        return np.asarray(scores.to_numpy())
    flat = scores.combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(-1, len(attribute.classes)).max(axis=1)) if len(flat) else flat


def write_prediction_report(
    store: Store,
    record: RunRecord,
    manifest: Manifest,
    statistics: PredictionStatistics,
    agreement: Agreement | None,
) -> None:
    """Writes the page into the run folder."""
    page = render_prediction_report(record, manifest, statistics, agreement)
    store.put(report_key(manifest.version), page.encode())


def render_prediction_report(
    record: RunRecord, manifest: Manifest, statistics: PredictionStatistics, agreement: Agreement | None
) -> str:
    """Renders the page as a single HTML file with embedded plots."""
    attributes = []
    decisions = read_decisions(record, manifest)
    for each in statistics.attributes.attributes:
        counts = statistics.counts[each.name]
        decision = decisions.get(each.name, Decision())
        order = np.argsort(-counts)[:12] if each.is_person else np.arange(len(counts))
        attributes.append(
            {
                "name": each.name,
                "classes": [(each.classes[index], int(counts[index])) for index in order],
                "num_hidden": len(counts) - len(order),
                "decision": str(decision) if each.is_yes_no else None,
                "histogram": draw_score_histogram(
                    statistics.histograms[each.name],
                    each,
                    decision.threshold,
                    _YEARS if each.is_years else (0.0, 1.0),
                ),
            }
        )
    return render_page(
        "prediction_report.html",
        record=record,
        manifest=manifest,
        num_good=manifest.status_counts.get(OK, 0),
        reasons=[(status, count) for status, count in manifest.status_counts.items() if status != OK],
        examples=statistics.examples,
        other_files=describe_files(manifest.change.get("files", record.source.get("files"))),
        attributes=attributes,
        derived=[(rule, statistics.counts[rule.name].tolist()) for rule in statistics.attributes.derived],
        agreement=agreement,
        agreements=agreement.finish() if agreement is not None else {},
    )
