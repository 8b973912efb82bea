"""`faceattr diff`: in which rows, images and labels two runs differ, without a cluster."""

import contextlib
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import tyro

from faceattr.attributes import Attribute
from faceattr.config import StorageConfig
from faceattr.config.flags import check_each_once
from faceattr.data.formats.csv_cells import neutralise
from faceattr.data.joined.choose import check_names
from faceattr.data.joined.differences import LIST_COLUMNS, AttributeDifferences, RunDifferences, list_extra
from faceattr.data.joined.row_order import ImageDifferences, JoinedRows, chunks, name_examples
from faceattr.data.joined.runs import RowReader, ScoredRun, open_scored_run
from faceattr.data.stores.addresses import local_path
from faceattr.data.stores.local_files import make_parent, new_text_file
from faceattr.evaluation.agreement import compare_counts
from faceattr.logs import say
from faceattr.reports.pages import format_kappa


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Compares two published label or prediction runs: rows, images, reasons of rejection, labels and scores.

    Rows are compared by image_id, in whatever order the runs have them.
    """

    first: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    second: tyro.conf.Positional[str]
    """The run folder that it is compared with."""
    output: Path | None = None
    """CSV file that lists every difference: image_id, what (an attribute, or image, sha256, status), the value in each
    run, and the scores: P(yes), or the largest of several classes. Default: none."""
    attributes: tuple[str, ...] = ()
    """Attributes to compare, derived ones too. Default: all with class scores and all derived ones that both runs
    have."""
    fail_on_difference: bool = False
    """Exit with 1 if an image, a reason of rejection, a label or the attributes differ; scores alone do not count."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        check_each_once("attributes", self.attributes)

    def __call__(self) -> int:
        """Compares, prints the counts, and writes the list."""
        runs = [open_scored_run(address, self.storage) for address in (self.first, self.second)]
        scored, derived, uncompared = _choose(runs, self.attributes)
        found, images = RunDifferences.begin(scored, derived), ImageDifferences()
        columns = [*scored, *(f"{name}_score" for name in scored), *derived]
        with contextlib.ExitStack() as stack:
            write = self._open_list(stack)
            joined = stack.enter_context(JoinedRows(runs[0], runs[1], ["status", *columns]))
            reader = RowReader(runs[0], ["row", "image_id", "sha256", "status", *columns])
            for rows in chunks(runs[0]):
                tables = reader.read(rows), joined.read(rows)
                images.observe(*tables)
                for listed in found.observe(*tables):
                    write(listed)
            for table in joined.extra():
                images.observe_extra(table)
                write(list_extra(table))
        say(_describe(runs, images, found, uncompared))
        if self.output is not None:
            say(f"the differences are listed in {self.output}")
        different_labels = any(each.num_different for each in found.attributes.values())
        is_same = images == ImageDifferences() and not (found.statuses or uncompared or different_labels)
        return 1 if self.fail_on_difference and not is_same else 0

    def _open_list(self, stack: contextlib.ExitStack) -> Callable[[pa.Table], None]:
        if self.output is None:
            return lambda table: None
        path = local_path(self.output, "--output")
        make_parent(path, "--output")
        writer = csv.writer(stack.enter_context(new_text_file(path)))
        writer.writerow(LIST_COLUMNS)
        return lambda table: writer.writerows([neutralise(cell) for cell in row.values()] for row in table.to_pylist())


def _choose(
    runs: Sequence[ScoredRun], names: Sequence[str]
) -> tuple[dict[str, Attribute], dict[str, Attribute], dict[str, str]]:
    """Returns the attributes with scores and the derived ones that are compared, and others -> why they are not."""
    first, second = runs
    check_names(runs, names)
    scored, derived, uncompared = {}, {}, {}
    for name in dict.fromkeys([*first.attributes, *first.rules, *second.attributes, *second.rules]):
        if names and name not in names:
            continue
        ours, theirs = (run.attributes.get(name) for run in runs)
        if ours is not None and theirs is not None:
            if ours == theirs:
                scored[name] = ours
            else:
                uncompared[name] = f"its classes differ: {', '.join(ours.classes)} and {', '.join(theirs.classes)}"
        elif name in first.rules and name in second.rules:
            derived[name] = Attribute(name=name)
        else:
            has = [run.address for run in runs if name in run.attributes or name in run.rules]
            uncompared[name] = f"only in {has[0]}" if len(has) == 1 else "derived in one run, asked in the other"
    return scored, derived, uncompared


def _describe(
    runs: Sequence[ScoredRun], images: ImageDifferences, found: RunDifferences, uncompared: dict[str, str]
) -> str:
    first, second = runs
    both = first.num_rows - images.num_only_first
    lines = [
        f"first      {first.address}: {first.num_rows:,} rows",
        f"second     {second.address}: {second.num_rows:,} rows",
        f"images     {both:,} in both, {_name_some(images.num_only_first, images.only_first)} only in the first, "
        f"{_name_some(images.num_only_second, images.only_second)} only in the second",
        f"sha256     {_name_some(images.num_changed, images.changed)} changed",
    ]
    statuses = [f"{before} -> {after} {count:,}" for (before, after), count in sorted(found.statuses.items())]
    lines.append(f"status     {', '.join(statuses) or 'the same'}; {found.num_compared:,} images accepted by both")
    lines += [f"{each.attribute.name:10} {_describe_attribute(each)}" for each in found.attributes.values()]
    return "\n".join(lines + [f"{name:10} not compared: {why}" for name, why in uncompared.items()])


def _describe_attribute(found: AttributeDifferences) -> str:
    classes = found.attribute.classes
    agreement = compare_counts(found.known)
    flips = [
        f"{classes[before]} -> {classes[after]} {found.known[before, after]:,}"
        for before, after in zip(*found.known.nonzero(), strict=True)
        if before != after
    ]
    parts = [f"{found.num_flips:,} of {agreement.count:,} labels flip" + (f" ({', '.join(flips)})" if flips else "")]
    if found.num_lost or found.num_gained:
        parts.append(f"{found.num_lost:,} labelled only in the first, {found.num_gained:,} only in the second")
    parts.append(f"kappa {format_kappa(agreement.kappa)}")
    if found.num_scores:
        shift = f"scores move by {found.shift_sum / found.num_scores:.4f} on average, {found.largest_shift:.4f} at most"
        if found.attribute.is_yes_no:
            shift += f", P(yes) by {found.change_sum / found.num_scores:+.4f}"
        parts.append(shift)
    return "; ".join(parts)


def _name_some(count: int, examples: Sequence[str]) -> str:
    return f"{count:,} ({name_examples(count, examples)})" if count else "0"
