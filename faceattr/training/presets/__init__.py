"""Default settings in YAML, one file per replaced system; `docs/migration.md` maps their options."""

from pathlib import Path

PRESETS_FOLDER = Path(__file__).parent
