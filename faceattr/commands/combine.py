"""`faceattr combine`: several label runs over the same images become one, without a cluster."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import pyarrow as pa
import tyro

import faceattr
from faceattr.config import StorageConfig
from faceattr.config.checks import check
from faceattr.config.flags import check_each_once
from faceattr.data.joined.choose import choose_shared, describe_questions, list_unshared
from faceattr.data.joined.combine import Combination, CombineMethod
from faceattr.data.joined.row_order import ImageDifferences, JoinedRows, compare_images, name_examples
from faceattr.data.joined.runs import RowReader, ScoredRun, measure_run, open_scored_run
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.begin import check_fingerprint, open_run
from faceattr.data.runs.changes.extent import read_removed
from faceattr.data.runs.commit import OK, commit_shard, shard_key
from faceattr.data.runs.lease import drive
from faceattr.data.runs.plan import Plan, read_part, write_plan
from faceattr.data.runs.version import Manifest, RunVersion, read_published, read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output, probe_store
from faceattr.data.stores.store import Store, has_object
from faceattr.errors import ConfigError
from faceattr.evaluation.agreement import PairAgreement, RunsAgreement
from faceattr.logs import say
from faceattr.reports.label import open_statistics, write_label_report
from faceattr.reports.pages import format_kappa, report_key

# Increased by hand when a change of the code can change a combined row.
COMBINING_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Combine:
    """Combines published label or prediction runs over the same images into one label run.

    Each attribute gets a label, a score and `<name>_agreement`: 1 if all runs give the same probabilities, 0 if half of
    them are certain of yes and half of no. The report has Cohen's kappa of every two runs. Packing, training, auditing
    and exporting read the result like any label run. The same command resumes a stopped one.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run folders, two or more: local paths or s3://bucket/prefix. Carried columns are the first one's."""
    output: str
    """Run folder of the result: a local path or s3://bucket/prefix."""
    method: CombineMethod = "mean"
    """`mean`: the runs' mean probability. `vote`: what most runs say, null for a tie. `agreed`: a label only where all
    runs give the same one. A run's own threshold counts as 0.5."""
    method_of: dict[str, CombineMethod] = field(default_factory=dict)
    """Method of single attributes, such as `--method-of hat vote glasses agreed`."""
    attributes: tuple[str, ...] = ()
    """Attributes to combine. Default: all with class scores that every run has."""
    agreement: bool = False
    """Multiply the mass of a score by the agreement of the runs, so that training gives less weight to images about
    which they differ. Labels and scores stay the same."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        check(len(self.runs) >= 2, "runs", self.runs, "two or more run folders")
        check_each_once("runs", self.runs)
        check_each_once("attributes", self.attributes)

    def __call__(self) -> int:
        """Checks that the runs have the same images, combines shard by shard, and publishes."""
        runs = [open_scored_run(address, self.storage) for address in self.runs]
        combination = self._choose(runs)
        store = open_output(self.output, self.storage)
        job = _CombineJob(runs=runs, combination=combination, store=store, config=dataclasses.asdict(self))
        job.check_output()
        with contextlib.ExitStack() as stack:
            names = _columns(combination)
            others = [stack.enter_context(JoinedRows(runs[0], run, names)) for run in runs[1:]]
            for run, joined in zip(runs[1:], others, strict=True):
                _refuse_other_images(runs[0], run, compare_images(runs[0], joined))
            probe_store(store)
            stack.enter_context(drive(store))
            say(job.run(others))
        for name, addresses in list_unshared(runs, combination.attributes).items():
            say(f"left out {name}, which is in {', '.join(addresses)}")
        return 0

    def _choose(self, runs: Sequence[ScoredRun]) -> Combination:
        attributes = choose_shared(runs, self.attributes)
        for name in self.method_of:
            if name not in attributes.names:
                raise ConfigError(
                    f"--method-of: {name!r} is not combined; expected one of {', '.join(attributes.names)}"
                )
        return Combination(
            attributes=attributes,
            methods=dict.fromkeys(attributes.names, self.method) | self.method_of,
            recentrings=tuple(measure_run(run, attributes.names) for run in runs),
            weighs_agreement=self.agreement,
        )


def _columns(combination: Combination) -> list[str]:
    """Returns the columns that are read of the second run and of all later ones."""
    suffixes = ("", "_score", "_mass")
    return ["status", "error", *(name + suffix for name in combination.attributes.names for suffix in suffixes)]


def _refuse_other_images(first: ScoredRun, second: ScoredRun, found: ImageDifferences) -> None:
    problems = []
    for count, examples, run, other in (
        (found.num_only_first, found.only_first, first, second),
        (found.num_only_second, found.only_second, second, first),
    ):
        if count:
            problems.append(f"{count:,} of {run.num_rows:,} images of {run.address} are not in {other.address}: ")
            problems[-1] += name_examples(count, examples)
    if found.num_changed:
        problems.append(
            f"{found.num_changed:,} images have another sha256: {name_examples(found.num_changed, found.changed)}"
        )
    if problems:
        raise ConfigError(
            "the runs are not over the same images, by image_id and sha256:\n  "
            + "\n  ".join(problems)
            + f"\nfaceattr diff {first.address} {second.address} --output FILE lists all of them"
        )


@dataclass(frozen=True, kw_only=True)
class _CombineJob:
    """A checked command.

    Attributes:
        runs: the runs that are combined.
        combination: how.
        store: the run folder of the result.
        config: the command as given, for run.json.
    """

    runs: Sequence[ScoredRun]
    combination: Combination
    store: Store
    config: dict[str, Any]

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rows of the run."""
        chosen: dict[str, Any] = {}
        if any(self.combination.recentrings):
            moved = self.combination.recentrings
            chosen["recentrings"] = [{name: dataclasses.asdict(each) for name, each in run.items()} for run in moved]
        return {
            "questions": describe_questions(self.runs, self.combination.attributes),
            "combined": [{"run_id": run.record.run_id, "version": run.manifest.version} for run in self.runs],
            "methods": dict(self.combination.methods),
            "weighs_agreement": self.combination.weighs_agreement,
            "combining_version": COMBINING_VERSION,
            **chosen,
        }

    @property
    def notes(self) -> dict[str, Any]:
        """Where the runs are, and what is known of their models; the reason for sensitive questions of each."""
        sources = [
            {
                "run": run.store.uri,
                "model": run.record.notes.get("model"),
                "revision": run.record.notes.get("revision"),
                "weights": run.record.fingerprint.get("weights"),
            }
            for run in self.runs
        ]
        sensitive = [run.record.notes["sensitive"] for run in self.runs if "sensitive" in run.record.notes]
        return {"combined": sources, **({"sensitive": sensitive} if sensitive else {})}

    def check_output(self) -> None:
        """Raises ConfigError if the output folder holds another run."""
        record = read_record(self.store)
        if record is not None:
            check_fingerprint(self.store, record, kind="label", fingerprint=self.fingerprint)

    def run(self, others: Sequence[JoinedRows]) -> str:
        """Begins or resumes the run, and publishes it. Returns what the user reads at the end."""
        first = self.runs[0].record
        record = open_run(
            self.store,
            kind="label",
            fingerprint=self.fingerprint,
            config=self.config,
            versions={name: metadata.version(name) for name in ("pyarrow", "numpy")}
            | {"faceattr": faceattr.__version__},
            notes=self.notes,
            write_plan=lambda: (self._copy_plan(), first.source, first.carried_schema),
        )
        schema = label_schema(self.combination.attributes, first.carried_schema, has_agreement=True)
        version = RunVersion(self.store, record, schema)
        done = version.published
        if done is not None:
            version.mark_published()
        if done is not None and has_object(self.store, report_key(done.version)):
            return f"nothing to do: this run is finished\n{self._summarise(done)}"
        agreement = self._commit_all(version, others)
        statistics = open_statistics(record)
        manifest = done
        if manifest is None:
            manifest = version.verify([statistics.observe])
            version.publish(manifest)
        else:  # the session that published it was killed before its report
            for table in read_published(self.store):
                statistics.observe(table)
        write_label_report(self.store, record, manifest, statistics, agreement=agreement)
        return "\n".join([self._summarise(manifest), *_describe_agreement(agreement.finish())])

    def _copy_plan(self) -> Plan:
        first = self.runs[0]
        removed = read_removed(first.store, first.manifest.extent)

        def parts() -> Iterator[pa.Table]:
            for part in first.record.plan.parts:
                rows = read_part(first.store, part)
                kept = rows.filter(pa.array(removed.live_mask(rows["row"].to_numpy()))) if len(removed) else rows
                yield kept.drop_columns("row")

        return write_plan(self.store, parts(), unique_by_source=True, shard_size=first.record.plan.shard_size)

    def _commit_all(self, version: RunVersion, others: Sequence[JoinedRows]) -> RunsAgreement:
        """Commits the shards that are not committed yet; compares the labels in all of them."""
        pending = set() if version.finished else set(version.work().pending.tolist())
        agreement = RunsAgreement(self.config["runs"], self.combination.attributes.attributes)
        for shard, tables in self._read_shards(version.record.plan, others):
            agreement.observe(tables)
            if shard in pending:
                key = shard_key(version.folder, version.record.plan, shard)
                commit_shard(self.store, key, self.combination.combine(tables, version.schema, key))
        return agreement

    def _read_shards(self, plan: Plan, others: Sequence[JoinedRows]) -> Iterator[tuple[int, list[pa.Table]]]:
        first = RowReader(self.runs[0])
        for shard in range(plan.num_shards):
            rows = plan.shard_range(shard)
            numbered = first.read(rows)
            place = numbered.schema.get_field_index("row")
            numbered = numbered.set_column(place, numbered.field(place), pa.array(rows, pa.int64()))
            yield shard, [numbered, *(other.read(rows) for other in others)]

    def _summarise(self, manifest: Manifest) -> str:
        good = manifest.status_counts.get(OK, 0)
        return (
            f"{manifest.summary}\n"
            f"combined {good:,}, rejected {manifest.num_rows - good:,}\n"
            f"report  {join_uri(self.store.uri, report_key(manifest.version))}"
        )


def _describe_agreement(agreements: Sequence[PairAgreement]) -> list[str]:
    width = max((len(each.attribute) for each in agreements), default=0)
    return [
        f"{each.attribute:{width}}  runs {each.first} and {each.second}: {each.agreement.agreement:.1%} of "
        f"{each.agreement.count:,} labels equal, kappa {format_kappa(each.agreement.kappa)}"
        for each in agreements
    ]
