"""A tuned encoder on the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geovlm._optional import require
from geovlm.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


def push_folder(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
    """Make a repository if there is none, and upload everything in a folder in one commit.

    Returns:
        The address of the repository.

    Raises:
        MissingExtra: `huggingface_hub` is not installed.
        StorageError: The hub cannot be reached, or refuses.
    """
    hub = require("huggingface_hub", extra="openclip", purpose="uploading")
    api = hub.HfApi(token=token)
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a tuned encoder")
    except Exception as error:
        raise StorageError(
            f"{folder} could not be uploaded to {repo_id} ({type(error).__name__}: {error}). Is the token one that may"
            " write? `hf auth login` keeps one."
        ) from error
    return str(address)
