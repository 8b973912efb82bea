"""The strips of a label run's report: for each attribute the most doubtful, the highest and the lowest scores."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from faceattr.audit.scored_table import read_scores
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.run_images import RunImages
from faceattr.data.inputs.source_rows import SourceRows
from faceattr.data.runs.plan import IN_FILES
from faceattr.data.runs.run_attributes import Decision, scored_attributes
from faceattr.data.runs.version import RunRecord
from faceattr.data.stores.store import Store
from faceattr.reports.strips.extremes import Extremes
from faceattr.reports.strips.images import Strip, Thumbnail, draw_strips

Place = tuple[str, int | None]
"""Address of an image, and its row there if it is in a Parquet file."""


class LabelStrips:
    """Collects rows of label tables, and draws their images.

    Args:
        record: the run.
        decisions: attribute -> how labels are made from scores, where that is unusual.
    """

    def __init__(self, record: RunRecord, decisions: Mapping[str, Decision]) -> None:
        self._record = record
        self._attributes = scored_attributes(record)
        self._extremes = {
            name: Extremes(each, decisions.get(name, Decision())) for name, each in self._attributes.items()
        }

    def observe(self, table: pa.Table) -> None:
        """Adds a label table."""
        rows = table.select(["row", "uri"])
        for name, attribute in self._attributes.items():
            scores, known = read_scores(table, attribute)
            self._extremes[name].add(rows.append_column("score", pa.array(scores)).filter(pa.array(known)))

    def draw(self, store: Store, storage: StorageConfig, limits: ImageLimitsConfig) -> dict[str, list[Strip[Place]]]:
        """Returns attribute -> strips.

        Args:
            store: the run folder.
            storage: how the images are reached.
            limits: bounds of one image.

        Raises:
            RunError: a file of the run, or one with images, is damaged.
            StorageError: a store does not answer.
        """
        source = self._record.source
        images = RunImages(source["root"], source["bytes_column"], storage, limits)
        in_files = SourceRows(store, self._record.plan if source["kind"] in IN_FILES else None)
        found = {}
        for name, extremes in self._extremes.items():
            strips = [_describe(title, rows, in_files) for title, rows in extremes.strips().items()]
            found[name] = draw_strips(strips, lambda place: images.read(*place), limits)
        return found


def _describe(title: str, rows: pa.Table, in_files: SourceRows) -> Strip[Place]:
    thumbnails = []
    for row in rows.to_pylist():
        (source_row,) = in_files.of(np.array([row["row"]])).to_pylist()
        thumbnails.append(Thumbnail(image=(row["uri"], source_row), caption=f"{row['score']:.3f}"))
    return Strip(title=title, thumbnails=thumbnails)
