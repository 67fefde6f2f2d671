"""Restorers on the Hugging Face Hub and in folders, with huggingface_hub's own method names."""

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from eqrestore_lightning.files._writing import whole_file
from eqrestore_lightning.nn import Estimator
from eqrestore_lightning.weights import load_estimator, read_notes, save_estimator
from eqrestore_lightning.weights._card import model_card

SHARED_FILE = "model.safetensors"
_SETTINGS = ("min_margin", "prior")


class Shareable:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` of a restorer.

    huggingface_hub's `PyTorchModelHubMixin` has these methods, but is not used: a base class cannot
    be optional; it reads the arguments of `__init__` from a file of the repository, here the path
    of the weights; it loads pickles where there is no safetensors file; and by default it accepts
    weights that do not fit.
    """

    estimator: Estimator
    min_margin: float
    prior: float | None
    notes: dict[str, str]

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **settings: float | None,
    ) -> Self:
        """Load what `save_pretrained` or `push_to_hub` wrote, from a folder or from the Hub.

        One file is read, `model.safetensors`; other files are neither downloaded nor opened.
        It must hold the digest of its content, and tensors that fit the network it describes
        exactly, see `load_estimator`. A digest protects from damage, not from forgery: name a
        commit as `revision` to be sure to get the same weights tomorrow.

        Args:
            name: A folder, or `"user/name"` on the Hub where there is no such folder; needs
                `pip install 'eqrestore-lightning[hub]'`.
            revision: Commit, tag or branch on the Hub; by default the newest commit.
            token: For private repositories; by default that of `hf auth login`.
            cache_dir: Where downloads are kept; by default where huggingface_hub keeps them.
            force_download: Whether to download again what is kept.
            local_files_only: Whether to use only what is kept.
            **settings: `min_margin` or `prior`, in place of the shared ones.

        Returns:
            The restorer, with the settings that it was shared with.

        Raises:
            FileNotFoundError: If there is no such folder, repository or revision, or it holds no
                `model.safetensors`.
            ImportError: If `name` is no folder and huggingface_hub is missing.
            ValueError: If `name` is neither a folder nor `"user/name"`, a folder is given a
                `revision`, or the file is malformed, damaged or without a digest.

        >>> from eqrestore_lightning import RestoreTransform
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RestoreTransform("photo", min_margin=3).save_pretrained(folder)
        ...     RestoreTransform.from_pretrained(folder).min_margin
        3
        """
        if Path(name).is_dir():
            path = _local_file(Path(name), revision)
        else:
            path = _downloaded(
                str(name),
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
            )
        estimator = load_estimator(path)
        notes = read_notes(path)
        shared = {**_shared_settings(notes, path), **settings}
        restore = cls(estimator, **shared)  # type: ignore[call-arg]  # of `RestoreTransform`
        restore.notes = notes
        return restore

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: Mapping[str, str] | None = None,
        repo_id: str | None = None,
    ) -> None:
        """Write weights and settings, and a card that describes them, into a folder.

        The files are `model.safetensors`, which replaces an older one, and `README.md`, which does
        not: it may have been edited.

        Args:
            folder: Where to; it is made if it does not exist.
            metadata: Further notes for the card, such as `license`, `purpose`, `data` and
                `not_for`, see `model_card`. Notes of the file that the restorer came from are kept.
            repo_id: Name on the Hub for the card; by default the name of the folder.

        Raises:
            TypeError: If the kind of estimator is not registered.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {name: getattr(self, name) for name in _SETTINGS}
        notes = {**self.notes, **(metadata or {}), "settings": json.dumps(settings)}
        path = folder / SHARED_FILE
        save_estimator(self.estimator, path, metadata=notes)
        card = folder / "README.md"
        if not card.exists():
            text = model_card(path, repo_id=repo_id or folder.absolute().name)
            with whole_file(card) as part:
                part.write_text(text, encoding="utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        commit_message: str = "Upload a restorer",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload what `save_pretrained` writes; the repository is made if it does not exist.

        Args:
            repo_id: `"user/name"`.
            metadata: As for `save_pretrained`.
            commit_message: What the commit says.
            private: Whether a new repository is private; by default as the account is set.
            token: By default that of `hf auth login`.
            branch: By default the main one.
            create_pr: Whether to propose the commit instead of making it.

        Returns:
            The address of the commit.

        Raises:
            ImportError: If huggingface_hub is missing.
            ValueError: If `repo_id` is not of the form `"user/name"`.
        """
        _check_name(repo_id)
        api = _hub().HfApi(token=token, library_name="eqrestore-lightning")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, metadata=metadata, repo_id=repo_id)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
            )
        return str(commit.commit_url)


def _hub() -> Any:
    try:
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(
            "Expected huggingface_hub to be installed: pip install 'eqrestore-lightning[hub]'"
        ) from error
    return huggingface_hub


def _check_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII):
        raise ValueError(f"Expected `user/name`, or a folder that exists, but got {name!r}.")


def _local_file(folder: Path, revision: str | None) -> Path:
    if revision is not None:
        raise ValueError(
            f"Expected no `revision` with a folder, which has one state only, but got {revision!r} "
            f"and {folder}."
        )
    return folder / SHARED_FILE


def _downloaded(name: str, **options: Any) -> Path:
    """Return the path of the file of weights of a repository, downloaded unless it is at hand."""
    _check_name(name)
    hub = _hub()
    revision = options["revision"]
    at = f"{name!r}" if revision is None else f"revision {revision!r} of {name!r}"
    try:
        api = hub.HfApi(library_name="eqrestore-lightning")
        return Path(api.hf_hub_download(name, SHARED_FILE, **options))
    except hub.errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"Expected to reach the Hub, or to have {SHARED_FILE} of {at} at hand, but got neither."
        ) from error
    except hub.errors.EntryNotFoundError as error:
        raise FileNotFoundError(
            f"Expected {at} to hold {SHARED_FILE}, but it does not: weights are loaded from "
            f"safetensors files only, as `push_to_hub` writes them."
        ) from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"Expected {at} to be a folder, or on the Hub and readable to you, but found neither."
        ) from error


def _shared_settings(notes: Mapping[str, str], path: Path) -> dict[str, float | None]:
    """Return `min_margin` and `prior` as they were shared; their ranges are checked by `__init__`.

    Raises:
        ValueError: If they are anything but numbers, or there are others.
    """
    try:
        settings = json.loads(notes.get("settings", "{}"))
    except (json.JSONDecodeError, RecursionError):
        settings = None
    if not isinstance(settings, dict) or not all(
        name in _SETTINGS and (type(value) in (int, float) or (value is None and name == "prior"))
        for name, value in settings.items()
    ):
        raise ValueError(
            f"Expected the settings in {path} to be `min_margin` and `prior`, numbers, "
            f"but got {notes['settings'][:100]!r}."
        )
    return settings
