"""`faceattr push model`: a trained model on the Hugging Face hub, from where `--model owner/name` reads it again."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from faceattr.commands.push.send import send_folder
from faceattr.config import StorageConfig
from faceattr.data.hub.push import HubRepo
from faceattr.data.model_folders import locate_folder
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import MissingObjectError
from faceattr.errors import ConfigError
from faceattr.logs import say
from faceattr.models.saved import read_config
from faceattr.models.saved_config import MODEL_FILES
from faceattr.reports.hub_cards import without_local_paths, write_basic_card

_CARD = "MODEL_CARD.md"


@dataclass(frozen=True, kw_only=True)
class PushModel:
    """Uploads a trained model: weights (safetensors), config with classes and thresholds, and its card.

    The token comes from HF_TOKEN or `hf auth login`.
    """

    model: tyro.conf.Positional[str]
    """A trained model: a local folder or s3://bucket/folder, such as OUTPUT/model of an evaluation."""
    repo: tyro.conf.Positional[str]
    """Where to: `owner/name`. A repository that does not exist is made."""
    card: str | None = None
    """The card: a Markdown file. Default: the MODEL_CARD.md of the evaluation whose folder holds the model, else one
    without figures."""
    private: bool = True
    """Only the owner sees the repository. A public one is then refused."""
    dry_run: bool = False
    """Print what would be uploaded; send nothing."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Gathers the files, and uploads them."""
        repo = HubRepo(name=self.repo, repo_type="model", private=self.private)
        found = locate_folder(self.model, patterns=MODEL_FILES, storage=self.storage)
        config = read_config(found)
        if config.unfinished is not None:
            raise ConfigError(f"{self.model} is {config.unfinished}; push it when it is finished")
        with tempfile.TemporaryDirectory(prefix="faceattr-push-") as scratch:
            folder = Path(scratch)
            for name in MODEL_FILES:
                shutil.copyfile(found / name, folder / name)
            card = self._read_card()
            if card is None:
                say(f"no {_CARD} beside the model: its card has no figures; `faceattr evaluate` makes one that has")
                card = write_basic_card(
                    config.attributes,
                    backbone=config.backbone.name,
                    size_px=config.preprocessing.size_px,
                    thresholds=config.thresholds,
                )
            (folder / "README.md").write_text(without_local_paths(card), encoding="utf-8")
            return send_folder(folder, repo, dry_run=self.dry_run)

    def _read_card(self) -> str | None:
        if self.card is not None:
            where, name = self.card.rpartition("/")[::2]
            try:
                return open_store(where or ".", self.storage).get(name).decode()
            except MissingObjectError as error:
                raise ConfigError(f"--card {self.card}: there is no such file") from error
        above = self.model.rstrip("/").rpartition("/")[0]
        try:
            return open_store(above or ".", self.storage).get(_CARD).decode()
        except MissingObjectError:
            return None
