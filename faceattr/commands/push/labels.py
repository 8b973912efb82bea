"""`faceattr push labels`: a published label run as a data set on the Hugging Face hub."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from faceattr.commands.push.send import send_folder
from faceattr.config import StorageConfig
from faceattr.data.hub.label_dataset import open_run_images, write_label_dataset
from faceattr.data.hub.push import HubRepo
from faceattr.data.stores.open import open_store
from faceattr.reports.hub_cards import write_dataset_card


@dataclass(frozen=True, kw_only=True)
class PushLabels:
    """Uploads the table of a published label or prediction run, with its card; the images only if asked.

    The token comes from HF_TOKEN or `hf auth login`.
    """

    run: tyro.conf.Positional[str]
    """Run folder: a local path or s3://bucket/prefix."""
    repo: tyro.conf.Positional[str]
    """Where to: `owner/name`. A repository that does not exist is made."""
    attributes: tuple[str, ...] = ()
    """Attributes to upload. Default: all."""
    images: bool = False
    """Upload the images, too: upright, as JPEG without EXIF."""
    private: bool = True
    """Only the owner sees the repository. A public one is then refused."""
    dry_run: bool = False
    """Print what would be uploaded; send nothing."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Writes the data set to a temporary folder, and uploads it."""
        repo = HubRepo(name=self.repo, repo_type="dataset", private=self.private)
        store = open_store(self.run, self.storage)
        with tempfile.TemporaryDirectory(prefix="faceattr-push-") as scratch:
            folder = Path(scratch) / "dataset"
            dataset = write_label_dataset(
                store,
                folder,
                names=self.attributes,
                images=open_run_images(store, self.storage) if self.images else None,
                verify=self.storage.verify,
            )
            card = write_dataset_card(dataset).replace("THIS_REPOSITORY", repo.name)
            (folder / "README.md").write_text(card, encoding="utf-8")
            return send_folder(folder, repo, dry_run=self.dry_run)
