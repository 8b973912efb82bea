"""Checks that a backbone's published weights are available before a run starts, without downloading them."""

import time
from collections.abc import Sequence
from pathlib import Path

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from timm.models import get_pretrained_cfg

from faceattr.data.model_folders import is_hub_id
from faceattr.errors import ModelError
from faceattr.models.backbones.from_timm import describe_timm_remedy
from faceattr.models.backbones.names import HF_PREFIX, built_name, is_timm_name

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_SHARDED = f"{_SAFE}.index.json"
_TRIES, _PAUSE_S = 2, 1.0
_OR_ELSE = "or start from random weights with --model.no-pretrained"


def check_published_weights(name: str) -> None:
    """Raises an error if the workers would not find the backbone's published weights.

    Folders, URIs and names of no known form are checked when the backbone is built. Files in this machine's hub cache
    are not requested again.

    Args:
        name: name of a backbone, as for `build_backbone`.

    Raises:
        ConfigError: timm has no such model or weights.
        ModelError: the hub has no such model, cannot be reached, or requires credentials.
    """
    if is_timm_name(name):
        _check_timm(name)
        return
    source = name.removeprefix(HF_PREFIX)
    if is_hub_id(source) and not Path(source).expanduser().exists():
        remedy = (
            f"On a machine with network access, `hf download {source} --local-dir FOLDER` fetches them; copy the "
            f"folder and give --model.backbone {HF_PREFIX}FOLDER, or point HF_HOME at a cache that holds them"
        )
        _check_hub(name, source, None, (_SAFE, _SHARDED), remedy)


def _check_timm(name: str) -> None:
    settings = get_pretrained_cfg(built_name(name))
    if settings is None or not settings.has_weights:
        raise ModelError(f"backbone {name!r}: timm {timm.__version__} has no pretrained weights for it, {_OR_ELSE}")
    if settings.hf_hub_id is None:
        # The weights have a URL of their own, which is only tested by the download; a cached file suffices.
        return
    repository, _, revision = settings.hf_hub_id.partition("@")
    file = settings.hf_hub_filename or _PICKLED
    # timm prefers a safetensors file next to the pickle if there is one.
    safe = _SAFE if file == _PICKLED else f"{file.rpartition('.')[0]}.safetensors"
    _check_hub(name, repository, revision or None, dict.fromkeys((safe, file)), describe_timm_remedy(built_name(name)))


def _check_hub(
    name: str, repository: str, revision: str | None, files: Sequence[str] | dict[str, None], remedy: str
) -> None:
    """Raises ModelError unless one of the files is in the cache or on the hub."""
    if any(isinstance(try_to_load_from_cache(repository, file, revision=revision), str) for file in files):
        return
    for file in files:
        try:
            _ask_hub(repository, file, revision)
            return
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise ModelError(
                f"backbone {name!r}: the Hugging Face hub has no such public model {repository!r} (a private or gated "
                f"one needs HF_TOKEN); give another --model.backbone, {_OR_ELSE}"
            ) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client raises errors of its HTTP library, which changes
            raise ModelError(
                f"backbone {name!r}: its pretrained weights ({repository} on the Hugging Face hub) cannot be had: this "
                f"machine's cache does not hold them, and the hub cannot be reached ({type(error).__name__}: {error}). "
                f"{remedy}, {_OR_ELSE}"
            ) from error
    raise ModelError(
        f"backbone {name!r}: {repository} on the Hugging Face hub has none of {', '.join(files)}; give another "
        f"--model.backbone, {_OR_ELSE}"
    )


def _ask_hub(repository: str, file: str, revision: str | None) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            get_hf_file_metadata(hf_hub_url(repository, file, revision=revision))
            return
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
            raise
        except Exception:  # a network failure is not an answer
            if attempt == _TRIES:
                raise
            time.sleep(_PAUSE_S)
