"""`faceattr audit sample`: draws the images of which people judge the labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow.compute as pc
import tyro

from faceattr.audit.draw import count_scores, describe_scores, draw_sample, share_budget
from faceattr.audit.folder import Audit, Sample, check_has_no_audit, write_sample
from faceattr.audit.images import copy_images
from faceattr.audit.lists.count import describe_list
from faceattr.audit.lists.draw import add_lists
from faceattr.audit.lists.labels import OtherLabels, read_given_labels, read_run_labels, read_suggested_labels
from faceattr.audit.scored_table import ScoredTable, open_scored_table
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.config.checks import check
from faceattr.config.flags import check_each_once
from faceattr.data.stores.open import open_output
from faceattr.logs import say


@dataclass(frozen=True, kw_only=True)
class AuditSample:
    """Draws a random sample of a table's rows for each attribute, more where the decision is close, for review."""

    table: tyro.conf.Positional[str]
    """A published label or prediction run, or a Parquet file with uri or image_path and <name>_score columns: a local
    path or s3://bucket/prefix."""
    output: str
    """Audit folder: a local path or s3://bucket/prefix. Reviewing needs a local one."""
    attributes: tuple[str, ...] = ()
    """Attributes to audit. Default: all with class scores."""
    per_attribute: int = 200
    """Images per attribute."""
    budget: int | None = None
    """Images of all attributes together, spread so that the intervals become about equally wide, as far as the
    scores tell; overrides --per-attribute. A person judges about 400 in an hour."""
    seed: int = 0
    """Random seed of the draw: the same seed draws the same images."""
    rejects: bool = False
    """List rejected rows too, so that people judge whether they were rejected rightly."""
    given: str | None = None
    """A CSV or Parquet file with labels that somebody gave: a column image_path, and one per attribute, named as it is.
    Rows whose label differs are listed too."""
    other: str | None = None
    """Another label or prediction run of these images, or a Parquet file with scores. Rows whose label differs are
    listed too."""
    issues: str | None = None
    """A label_issues.parquet of `faceattr audit issues`: rows whose label it takes as wrong are listed too."""
    per_list: int = 50
    """Rows per attribute of --given, --other and --issues, and per reason of --rejects. Listed rows are no random
    sample: they are counted on their own, beyond --per-attribute and --budget."""
    copy_images: bool = False
    """Copy the sampled images into the audit folder, so that reviewers need no access to where they are."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)

    def __post_init__(self) -> None:
        check_each_once("attributes", self.attributes)
        check(self.per_attribute >= 10, "per-attribute", self.per_attribute, "10 or more")
        check(self.budget is None or self.budget >= 10, "budget", self.budget, "10 or more")
        check(self.per_list >= 1, "per-list", self.per_list, "1 or more")
        for name in ("given", "other", "issues"):
            check(getattr(self, name) != "", name, getattr(self, name), "an address")
        check(self.seed >= 0, "seed", self.seed, "0 or more")

    def __call__(self) -> int:
        """Draws the sample, writes the audit folder, and prints what is in it."""
        table = open_scored_table(self.table, self.storage, self.attributes)
        store = open_output(self.output, self.storage)
        check_has_no_audit(store)
        others = self._read_others(table)
        sample = self._draw(table)
        if others or self.rejects:
            sample = add_lists(table, sample, others, rejects=self.rejects, size=self.per_list)
        unread: Mapping[str, int] = {}
        if self.copy_images:
            sample, unread = copy_images(sample, store, self.storage, self.decode)
        write_sample(store, sample)
        rejected = [f"{each.flag} {each.address}: {each.rejected}" for each in others if each.rejected]
        say("\n".join([*rejected, describe_sample(sample, unread, store.uri)]))
        return 0

    def _read_others(self, table: ScoredTable) -> list[OtherLabels]:
        readers = ((self.given, read_given_labels), (self.other, read_run_labels), (self.issues, read_suggested_labels))
        return [read(address, self.storage, table) for address, read in readers if address is not None]

    def _draw(self, table: ScoredTable) -> Sample:
        histograms = count_scores(table)
        draws = (
            dict.fromkeys(histograms, self.per_attribute)
            if self.budget is None
            else share_budget(histograms, self.budget)
        )
        attributes, items = draw_sample(table, histograms, draws, seed=self.seed)
        audit = Audit(
            table=table.address,
            run_id=table.run_id,
            version=table.version,
            root=table.root,
            bytes_column=table.bytes_column,
            seed=self.seed,
            attributes=tuple(attributes),
        )
        return Sample(audit=audit, items=items, scores=describe_scores(histograms))


def describe_sample(sample: Sample, unread: Mapping[str, int], where: str) -> str:
    """Returns the summary for the user.

    Args:
        sample: the audit.
        unread: reason -> number of images that could not be copied.
        where: the audit folder.
    """
    drawn = [each for each in sample.audit.attributes if each.strata]
    width = max(len(each.attribute.name) for each in drawn)
    lines = [
        f"{each.attribute.name:{width}}  {sum(stratum.num_sampled for stratum in each.strata):,} of {each.num_rows:,} "
        f"rows, from {len(each.strata)} ranges of scores"
        for each in drawn
    ]
    lines += [
        f"{describe_list(each.attribute, each.reason)}: {each.num_listed:,} of {each.num_rows:,} rows listed"
        for each in sample.audit.lists
    ]
    if sample.has_copies:
        lines.append(f"{len(pc.unique(sample.items['copy'].drop_null())):,} images are copied")
    lines += [f"{count:,} images could not be copied: {reason}" for reason, count in unread.items()]
    return "\n".join([*lines, f"judge them with: faceattr audit review {where}"])
