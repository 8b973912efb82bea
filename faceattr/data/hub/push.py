"""Uploads a folder to the Hugging Face hub, as one commit of a repository that is private by default.

The token comes from HF_TOKEN or `hf auth login`; it is never printed. HF_ENDPOINT names another hub.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx2
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars, logging

from faceattr.errors import ConfigError, StorageError

RepoType = Literal["model", "dataset"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """A repository.

    Attributes:
        name: `owner/name`.
        repo_type: what it holds.
        private: whether only its owner sees it.
    """

    name: str
    repo_type: RepoType
    private: bool = True

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(f"{self.name!r}: expected the hub's name of a repository, `owner/name`")


def list_folder(folder: Path) -> list[tuple[str, int]]:
    """Returns (key, size in bytes) of every file below a folder, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def push_folder(folder: Path, repo: HubRepo) -> str:
    """Uploads all files of a folder in one commit; a new repository is made first.

    Args:
        folder: the folder; files of a data set in the repository's `data/` that are not in it are deleted.
        repo: where to.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: there is no token, it may not write there, or a repository that should be private is public.
        StorageError: the hub cannot be reached, or refuses.
    """
    if get_token() is None:
        raise ConfigError("the Hugging Face hub wants a token: log in with `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="faceattr")
    with _quiet(), _named_errors(repo):
        try:
            is_private = bool(api.repo_info(repo.name, repo_type=repo.repo_type).private)
        except RepositoryNotFoundError:
            api.create_repo(repo.name, repo_type=repo.repo_type, private=repo.private, exist_ok=True)
            is_private = repo.private
        if repo.private and not is_private:
            raise ConfigError(
                f"{repo.name} exists and is public: anybody would see what is pushed. Give another name, make it "
                "private on the hub, or give --no-private"
            )
        commit = api.upload_folder(
            repo_id=repo.name,
            repo_type=repo.repo_type,
            folder_path=folder,
            commit_message="Upload by faceattr",
            delete_patterns="data/*" if repo.repo_type == "dataset" else None,
        )
    return str(commit.commit_url)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the client's progress bars and warnings away in the block."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        logging.set_verbosity(before)


@contextmanager
def _named_errors(repo: HubRepo) -> Iterator[None]:
    """Turns the client's errors in the block into ours."""
    where = f"{repo.name} on the Hugging Face hub"
    if os.environ.get("HF_ENDPOINT"):
        where = f"{repo.name} at HF_ENDPOINT"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConfigError(f"{where}: HF_HUB_OFFLINE forbids all requests; unset it to push") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ConfigError(
                f"{where}: the hub answered {status}: the token may not write there; take one with write access, and "
                "an owner that you may write for"
            ) from error
        raise StorageError(f"{where}: the hub answered {status}: {error.server_message or 'no reason'}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise StorageError(f"{where}: cannot be reached: {type(error).__name__}: {error}") from error
