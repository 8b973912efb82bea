"""Addresses of data sets on the Hugging Face hub: `hf://datasets/OWNER/NAME[@REVISION][/FOLDER]`, read at one commit.

A branch moves on, and a run's plan is frozen: so the commit that an address means when a run begins is written into the
addresses of its images. pyarrow reads them by the file system of `huggingface_hub`; the token is HF_TOKEN's or that of
`hf auth login`, and HF_ENDPOINT names another hub.
"""

import re

from faceattr.errors import ConfigError, StorageError

_SCHEME = "hf://"
_ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/]+))?(?P<folder>/.*)?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pin_commit(address: str) -> str:
    """Returns an address of the hub with the commit that its revision is now; others as they are.

    Raises:
        ConfigError: it is no address of a data set, or there is no such data set or revision for this token.
        StorageError: the hub cannot be reached.
    """
    if not address.startswith(_SCHEME):
        return address
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(f"{address!r}: expected hf://datasets/OWNER/NAME[@REVISION][/FOLDER]")
    repo, revision, folder = found["repo"], found["revision"], found["folder"] or ""
    commit = revision if revision and _COMMIT.fullmatch(revision) else _find_commit(address, repo, revision)
    return f"hf://datasets/{repo}@{commit}{folder}"


def _find_commit(address: str, repo: str, revision: str | None) -> str:
    # Late: a second to import, which runs over other stores can do without.
    import httpx2  # noqa: PLC0415
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return str(HfApi(library_name="faceattr").dataset_info(repo, revision=revision).sha)
    except RevisionNotFoundError as error:
        raise ConfigError(f"{address}: the data set has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"{address}: the hub has no such data set, or it is private and the token may not read it; log in with "
            "`hf auth login`, or set HF_TOKEN"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(f"{address}: HF_HUB_OFFLINE forbids all requests; unset it") from error
    except HfHubHTTPError as error:
        raise StorageError(f"{address}: the hub answered {error.response.status_code}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise StorageError(f"{address}: the hub cannot be reached: {type(error).__name__}: {error}") from error
