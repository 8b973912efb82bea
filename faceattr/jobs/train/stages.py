"""The reading stages of a training's image stream: windows of row groups -> encoded rows in order.

Each stage is a small picklable object that maps Arrow tables; Ray runs them as tasks and shows their class names.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import AttributeSet
from faceattr.data.packed.reader import PackedData
from faceattr.errors import RunError
from faceattr.jobs.cluster.milestones import reach
from faceattr.training.balance import ClassCombinations, weigh_cells, weigh_rows
from faceattr.training.label_survey import SplitSurvey, label_columns
from faceattr.training.row_order import deal_rows, order_rows

# Position of a row in its epoch: orders the rows, determines their batch, and seeds their augmentation.
POSITION = "position"
IMAGE = "image"
# Bytes of encoded images in one table; a block has fewer rows if they are large.
_TABLE_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Identifies a pass over the training images, and the worker.

    Attributes:
        seed: seed of the run.
        number: number of the epoch, from 0.
        rank: rank of the worker.
        world_size: number of workers.
    """

    seed: int
    number: int
    rank: int
    world_size: int


@dataclass(frozen=True, kw_only=True)
class ReadWindow:
    """Windows -> the encoded images and labels of this worker's rows in them, in order.

    Attributes:
        data: the packed runs.
        attributes: attributes whose labels are read.
        survey: survey of the training split.
        balance: attributes whose combinations are drawn equally often.
        epoch: epoch that the windows belong to.
        block_rows: maximum number of rows in a table.
        balance_power: how far sampling is balanced; see `weigh_cells`.
        table_bytes: maximum bytes of encoded images in a table, unless a single image has more.
    """

    data: PackedData
    attributes: AttributeSet
    survey: SplitSurvey
    balance: tuple[str, ...]
    epoch: Epoch
    block_rows: int
    balance_power: float = 1.0
    table_bytes: int = _TABLE_BYTES

    def __call__(self, windows: pa.Table) -> Iterator[pa.Table]:
        """Yields the rows of the windows; columns: position, image, labels."""
        reach("reader", "imports done")
        for window in windows.to_pylist():
            yield from self._read(window["number"], window["first_position"], np.array(window["stretches"], np.int64))

    def _read(self, number: int, first_position: int, stretches: np.ndarray) -> Iterator[pa.Table]:
        epoch = self.epoch
        sizes = self.survey.stretches.num_rows[stretches]
        stretch, row = order_rows(
            sizes, seed=epoch.seed, epoch=epoch.number, window=number, weights=self._weigh(stretches)
        )
        mine = deal_rows(stretch, num_stretches=len(sizes), rank=epoch.rank, world_size=epoch.world_size)
        positions = first_position + np.flatnonzero(mine)
        stretch, row = stretch[mine], row[mine]
        names = label_columns(self.data, self.attributes)
        tables = {int(each): self._read_stretch(int(stretches[each]), [IMAGE, *names]) for each in np.unique(stretch)}
        images = {each: table[IMAGE] for each, table in tables.items()}
        labels = pa.concat_tables([table.select(names) for table in tables.values()])
        starts = dict(zip(tables, np.cumsum([0, *map(len, tables.values())]).tolist(), strict=False))
        sizes_of = {each: pc.binary_length(images[each]).to_numpy() for each in images}
        num_bytes = np.array(
            [sizes_of[each][place] for each, place in zip(stretch.tolist(), row.tolist(), strict=True)]
        )
        for part in _cut_parts(num_bytes, most_rows=self.block_rows, most_bytes=self.table_bytes):
            places = list(zip(stretch[part].tolist(), row[part].tolist(), strict=True))
            # One by one: Arrow would put all images of the window into one array first, which is limited to 2 GB.
            data = pa.array([images[each][place].as_py() for each, place in places], pa.large_binary())
            found = labels.take(pa.array([starts[each] + place for each, place in places], pa.int64()))
            yield found.add_column(0, IMAGE, data).add_column(0, POSITION, pa.array(positions[part], pa.int64()))

    def _weigh(self, stretches: np.ndarray) -> np.ndarray | None:
        if not self.balance:
            return None
        cells = ClassCombinations(self.data.attributes, self.balance)
        weights = weigh_cells(np.array(self.survey.cells, np.int64), self.balance_power)
        found = [cells.find(self._read_stretch(int(each), list(cells.columns))) for each in stretches]
        return weigh_rows(np.concatenate(found), weights)

    def _read_stretch(self, stretch: int, columns: list[str]) -> pa.Table:
        return read_stretch(self.data, "train", self.survey, stretch, columns)


def _cut_parts(num_bytes: np.ndarray, *, most_rows: int, most_bytes: int) -> Iterator[slice]:
    """Yields slices of consecutive rows, each as long as the limits allow."""
    ends = np.cumsum(num_bytes)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + most_bytes, side="right"))
        stop = max(start + 1, min(start + most_rows, fitting))
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, kw_only=True)
class ReadStretches:
    """Numbers of row groups of a split -> their rows: encoded images and labels.

    Attributes:
        data: the packed runs.
        attributes: attributes whose labels are read.
        split: name of the split.
        survey: survey of the split.
    """

    data: PackedData
    attributes: AttributeSet
    split: str
    survey: SplitSurvey

    def __call__(self, stretches: pa.Table) -> Iterator[pa.Table]:
        """Yields one table per row group; columns: image, labels."""
        columns = [IMAGE, *label_columns(self.data, self.attributes)]
        for number in stretches["stretch"].to_pylist():
            yield read_stretch(self.data, self.split, self.survey, number, columns)


def read_stretch(data: PackedData, split: str, survey: SplitSurvey, stretch: int, columns: list[str]) -> pa.Table:
    """Reads the usable rows of one row group.

    Raises:
        RunError: their number differs from the survey's.
        StorageError: it cannot be read.
    """
    places = survey.stretches
    file, group = data.splits[split][int(places.file[stretch])], int(places.group[stretch])
    table = data.read_group(file, group, columns)
    if len(table) != places.num_rows[stretch]:
        raise RunError(
            f"{file.uri}: row group {group} has {len(table)} usable rows, and had {places.num_rows[stretch]} when the "
            "training began; the packed run was changed"
        )
    return table
