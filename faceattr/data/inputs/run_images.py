"""Single images of a run or a table of scores, read where they are: objects, or parts of Parquet or tar files."""

from collections.abc import Sequence

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.folder_files import is_tar_name
from faceattr.data.inputs.image_column import ImageColumn
from faceattr.data.inputs.object_reader import ObjectReader, root_of
from faceattr.data.inputs.tar_images import MemberPlace, TarFile
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, ImageError


class RunImages:
    """The images of a run; thread-safe.

    Args:
        root: where the images are, but for those with another address; opened when the first object is read.
        bytes_column: for images in Parquet files, the column with them.
        storage: how the images are reached.
        limits: bounds of an encoded image.
    """

    def __init__(self, root: str, bytes_column: str | None, storage: StorageConfig, limits: ImageLimitsConfig) -> None:
        self._root = root
        self._column = bytes_column
        self._storage = storage
        self._limits = limits
        self._readers: dict[str, ObjectReader] = {}

    def read(self, uri: str, source_row: int | None, others: Sequence[str] = ()) -> bytes | ImageError:
        """Returns the encoded image, or why it cannot be used.

        Args:
            uri: address of the object, or of the Parquet or tar file.
            source_row: row inside the Parquet file, byte of the header in the tar file; None for an object.
            others: addresses of other images; see `ObjectReader.read`.

        Raises:
            ConfigError: the image is a row of a Parquet file, and no column is known.
            RunError: the Parquet file is damaged, or the tar file was changed.
            StorageError: the store does not answer; nothing is known about the image.
        """
        if source_row is None:
            root = self._root_of(uri)
            return self._open(root).read(uri, [each for each in others if self._root_of(each) == root])
        if is_tar_name(uri):
            place = MemberPlace(offset=source_row, num_bytes=None)
            return TarFile(uri=uri, storage=self._storage).read([place], self._limits)[0]
        if self._column is None:
            raise ConfigError(f"{uri}: its images are rows of a Parquet file, and no column with images is named")
        column = ImageColumn(uri=uri, name=self._column, storage=self._storage)
        return next(column.read([source_row], self._limits), ImageError("missing", "there is no such row"))

    def _root_of(self, uri: str) -> str:
        """Returns the root that the address is below: a table of scores may name images elsewhere."""
        return root_of(uri, self._root) or uri.rpartition("/")[0]

    def _open(self, root: str) -> ObjectReader:
        if root not in self._readers:
            self._readers[root] = ObjectReader(open_store(root, self._storage), self._limits)
        return self._readers[root]
