"""Images in tar files, as WebDataset writes them: `0001.jpg`, and beside it `0001.cls`, `0001.json` or `0001.txt`.

A row is a member that is an image: address of the tar file, byte of its header (`source_row`) and size. Members of one
sample follow each other and have one key, the name up to the first dot of its last part; texts of a sample are carried
columns of all its images. Planning reads headers and these texts, a few tar files at a time, in order of their names.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from faceattr.config import StorageConfig
from faceattr.data.formats.tar_headers import TarHeaders, TarMember
from faceattr.data.formats.text_tables import table_file
from faceattr.data.inputs.folder_files import FolderFiles, is_image_name
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.runs.plan import plan_schema
from faceattr.data.stores.keys import check_key, join_uri
from faceattr.data.stores.store import ObjectInfo, Store
from faceattr.errors import ConfigError

TEXT_MEMBERS = ("cls", "json", "txt")
_MOST_TEXT_BYTES = 2**20
_THREADS = 8
_BATCH_ROWS = 8_192
_BATCH_TEXT_BYTES = 8 * 2**20
# Images of one key that wait for their texts: all of a sample in WebDataset, any number where names have further dots.
_MOST_WAITING = 1_024

_Batch = tuple[pa.Table, FolderFiles]


def open_tars(
    store: Store, shards: Sequence[ObjectInfo], storage: StorageConfig, reserved: frozenset[str], files: FolderFiles
) -> ImageInput:
    """Opens tar files.

    Args:
        store: the folder with them.
        shards: their entries in its listing.
        storage: how they are reached.
        reserved: names of the output's own columns; a text with such a name is carried as `given_<name>`.
        files: counts members that are not rows, once the tables are read.
    """
    carried = pa.schema([pa.field(f"given_{name}" if name in reserved else name, pa.string()) for name in TEXT_MEMBERS])
    in_order = sorted(shards, key=lambda shard: shard.key)
    tables = files.counted(_tables(store, in_order, storage, plan_schema(list(carried))))
    return ImageInput(kind="tar", root=store.uri, carried=carried, tables=tables, files=files)


def _tables(store: Store, shards: Sequence[ObjectInfo], storage: StorageConfig, schema: pa.Schema) -> Iterator[_Batch]:
    """Yields the rows of all tar files in order; the next tables of a few files are read meanwhile."""
    upcoming = iter(shards)
    waiting: deque[tuple[Iterator[_Batch], Future[_Batch | None]]] = deque()
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="tars")
    try:
        while True:
            while len(waiting) < _THREADS and (shard := next(upcoming, None)) is not None:
                batches = _Shard(store, shard, schema).batches(storage)
                waiting.append((batches, pool.submit(next, batches, None)))
            if not waiting:
                return
            batches, future = waiting.popleft()
            found = future.result()
            if found is not None:
                waiting.appendleft((batches, pool.submit(next, batches, None)))
                yield found
    finally:
        pool.shutdown(cancel_futures=True)


class _Shard:
    """The rows of one tar file."""

    def __init__(self, store: Store, shard: ObjectInfo, schema: pa.Schema) -> None:
        self._shard = shard
        self._uri = join_uri(store.uri, shard.key)
        self._schema = schema
        self._files = FolderFiles()
        self._rows: list[tuple[str | int | None, ...]] = []
        self._num_text_bytes = 0
        # The sample that is being read.
        self._key = ""
        self._images: list[TarMember] = []
        self._texts: dict[str, str] = {}
        self._is_begun = False  # whether rows of it were made already

    def batches(self, storage: StorageConfig) -> Iterator[_Batch]:
        """Yields rows, and the counts of the members that were read for them."""
        with table_file(self._uri, storage) as file:
            headers = TarHeaders(file, self._uri)
            for member in headers:
                if member.is_file or member.is_link:
                    self._add(member, headers)
                if len(self._rows) >= _BATCH_ROWS or self._num_text_bytes >= _BATCH_TEXT_BYTES:
                    yield self._take()
            self._end_sample()
            yield self._take()

    def _add(self, member: TarMember, headers: TarHeaders) -> None:
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        key = f"{folder}{slash}{stem}"
        if key != self._key:
            self._end_sample()
            self._key, self._is_begun = key, False
        if is_image_name(member.name):
            self._files.add_member(member.name)
            self._images.append(self._checked(member))
            if len(self._images) == _MOST_WAITING:
                self._flush()
        elif ending.lower() in TEXT_MEMBERS and member.is_file:
            self._add_text(ending.lower(), member, headers)
        elif member.is_file:
            self._files.add_member(member.name)

    def _checked(self, member: TarMember) -> TarMember:
        if member.is_link:
            self._refuse(
                f"the member {member.name!r} is a link; make the tar file with --hard-dereference --dereference"
            )
        return member

    def _add_text(self, ending: str, member: TarMember, headers: TarHeaders) -> None:
        if ending in self._texts:
            self._refuse(f"the sample {self._key!r} has two members {ending!r}; keys of samples must differ")
        if self._is_begun:
            self._refuse(
                f"{_MOST_WAITING:,} images or more have the key {self._key!r} and come before {member.name!r}; a key "
                "ends at the first dot of a name"
            )
        if member.num_bytes > _MOST_TEXT_BYTES:
            self._refuse(f"the member {member.name!r} has {member.num_bytes:,} bytes; at most {_MOST_TEXT_BYTES:,}")
        try:
            self._texts[ending] = headers.read(member).decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"{self._uri}: the member {member.name!r} is not text in UTF-8 ({error.reason})"
            ) from error

    def _end_sample(self) -> None:
        if self._texts and not self._images and not self._is_begun:
            for ending in self._texts:  # labels without an image
                self._files.add_member(f"{self._key}.{ending}")
        self._flush()
        self._texts = {}

    def _flush(self) -> None:
        texts = [self._texts.get(name) for name in TEXT_MEMBERS]
        for member in self._images:
            self._rows.append((self._image_id(member.name), member.num_bytes, member.offset, *texts))
            self._num_text_bytes += sum(len(text or "") for text in texts)
        self._is_begun = bool(self._is_begun or self._images)
        self._images = []

    def _image_id(self, name: str) -> str:
        """Returns the address of the tar file and the member's name, without what tar itself ignores: `/`, `./`."""
        key = "/".join(part for part in name.split("/") if part not in ("", "."))
        problem = check_key(key)
        if problem is None and not key.isascii():
            try:
                key.encode()
            except UnicodeEncodeError:
                problem = "it is not UTF-8"
        if problem:
            self._refuse(f"the member {name!r}: {problem}; rename it")
        return f"{self._shard.key}/{key}"

    def _take(self) -> _Batch:
        ids, sizes, offsets, *texts = zip(*self._rows, strict=True) if self._rows else ((),) * (3 + len(TEXT_MEMBERS))
        count = len(self._rows)
        columns = [ids, [self._uri] * count, sizes, [self._shard.etag] * count, offsets, *texts]
        table = pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)],
            schema=self._schema,
        )
        counts, self._files = self._files, FolderFiles()
        self._rows, self._num_text_bytes = [], 0
        return table, counts

    def _refuse(self, problem: str) -> None:
        raise ConfigError(f"{self._uri}: {problem}")
