"""`faceattr models`: the models that can label, what is known of them, and which are in this machine's cache."""

from dataclasses import dataclass

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from faceattr.logs import say
from faceattr.planning.models import MODEL_COLUMNS, load_models, model_rows


@dataclass(frozen=True, kw_only=True)
class Models:
    """Prints the models that can label: licence, size, work, speed, what is known on faces, and which are cached.

    The cache is this machine's Hugging Face cache. Nothing is downloaded.
    """

    cached: bool = False
    """Show only those in the cache."""

    def __call__(self) -> int:
        """Prints the table."""
        say(describe_models(read_cached_sizes(), cached_only=self.cached))
        return 0


def read_cached_sizes() -> dict[str, int]:
    """Returns hub id -> bytes on disk, of all models in this machine's Hugging Face cache; empty if there is none."""
    try:
        found = scan_cache_dir()
    except CacheNotFound:
        return {}
    return {repo.repo_id: repo.size_on_disk for repo in found.repos if repo.repo_type == "model"}


def describe_models(cached: dict[str, int], *, cached_only: bool = False) -> str:
    """Returns the table as text.

    Args:
        cached: hub id -> bytes on disk.
        cached_only: whether models that are not in the cache are left out.
    """
    blocks = []
    for cells in model_rows(load_models()):
        name = cells[0]
        if cached_only and name not in cached:
            continue
        place = f"{cached[name] / 1e9:.2f} GB in the cache" if name in cached else "not in the cache"
        lines = [f"{name}  ({place})"]
        lines += [f"  {column:18} {cell}" for column, cell in zip(MODEL_COLUMNS[1:], cells[1:], strict=True)]
        blocks.append("\n".join(lines))
    others = sorted(set(cached) - set(load_models()))
    if others:
        blocks.append(f"also in the cache, not in the table: {', '.join(others)}")
    return "\n\n".join(blocks) if blocks else "none of the models in the table is in this machine's Hugging Face cache"
