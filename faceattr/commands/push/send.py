"""The last step of every push: says what would be uploaded, or uploads it."""

from pathlib import Path

from faceattr.data.hub.push import HubRepo, list_folder, push_folder
from faceattr.logs import say


def send_folder(folder: Path, repo: HubRepo, *, dry_run: bool) -> int:
    """Uploads a folder, or with `dry_run` only lists it; prints the files and returns the exit code."""
    files = list_folder(folder)
    seen_by = "private" if repo.private else "public: anybody sees it"
    say(f"{repo.repo_type} {repo.name}, {seen_by}\n" + "\n".join(f"  {key}  {size:,} bytes" for key, size in files))
    if dry_run:
        say("Nothing was sent.")
        return 0
    say(f"pushed {len(files)} files: {push_folder(folder, repo)}")
    return 0
