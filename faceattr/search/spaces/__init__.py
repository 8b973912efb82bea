"""Search spaces that come with the package, by name."""

from pathlib import Path

from faceattr.data.sources.options import near_hint
from faceattr.errors import ConfigError

SPACES_FOLDER = Path(__file__).parent


def read_builtin_space(name: str) -> str | None:
    """Returns the text of a built-in space; None if `name` is a path or an address.

    Raises:
        ConfigError: it is a bare name, and no built-in space has it.
    """
    if "/" in name or Path(name).suffix in (".yaml", ".yml"):
        return None
    known = sorted(path.stem for path in SPACES_FOLDER.glob("*.yaml"))
    if name not in known:
        raise ConfigError(
            f"--space {name!r}: expected a .yaml file, or one of {', '.join(known)}; {near_hint(name, known)}"
        )
    return (SPACES_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
