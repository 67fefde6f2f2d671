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
from eqrestore_lightning.weights._card import model_card
from eqrestore_lightning.weights._files import load_estimator, read_notes, save_estimator

_FILE = "model.safetensors"
_SETTINGS = ("min_margin", "prior")


class Shareable:
    """`from_pretrained`, `save_pretrained` and `push_to_hub` of a restorer.

    huggingface_hub's `PyTorchModelHubMixin` is not used: a base class cannot be optional, and it
    loads pickles where there is no safetensors file.
    """

    estimator: Estimator
    min_margin: float
    prior: float | None
    notes: dict[str, str]

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> Self:
        """Load what `save_pretrained` or `push_to_hub` wrote, from a folder or from the Hub.

        One file is read, `model.safetensors`, see `load_estimator`; others are not downloaded. A
        digest protects from damage, not from forgery: name a commit as `revision` to be sure to
        get the same weights tomorrow.

        Args:
            name: A folder, or `"user/name"` on the Hub where there is no such folder; needs
                `pip install 'eqrestore-lightning[hub]'`.
            **options: `min_margin` or `prior`, in place of the shared ones. For the Hub also those
                of `huggingface_hub.hf_hub_download`, such as `revision`, `token`, `cache_dir` and
                `local_files_only`.

        Returns:
            The restorer, with the settings that it was shared with.

        Raises:
            FileNotFoundError: If there is no `model.safetensors` in the folder or repository, or no
                such repository or revision.
            ImportError: If `name` is no folder and huggingface_hub is missing.
            ValueError: If `name` is neither a folder nor `"user/name"`, a folder is given options
                of the Hub, or the file is malformed, damaged or without a digest.

        >>> from eqrestore_lightning import RestoreTransform
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     RestoreTransform("photo", min_margin=3).save_pretrained(folder)
        ...     RestoreTransform.from_pretrained(folder).min_margin
        3
        """
        settings = {key: options.pop(key) for key in _SETTINGS if key in options}
        if not Path(name).is_dir():
            path = _downloaded(str(name), **options)
        elif options:
            raise ValueError(f"Expected no options of the Hub with a folder, but got {options}.")
        else:
            path = Path(name) / _FILE
        estimator, notes = load_estimator(path), read_notes(path)
        settings = {**_shared_settings(notes, path), **settings}
        restore = cls(estimator, **settings)  # type: ignore[call-arg]  # of `RestoreTransform`
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
                `not_for`. Notes of the file that the restorer came from are kept.
            repo_id: Name on the Hub for the card; by default the name of the folder.

        Raises:
            TypeError: If the kind of estimator is not registered.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {name: getattr(self, name) for name in _SETTINGS}
        notes = {**self.notes, **(metadata or {}), "settings": json.dumps(settings)}
        save_estimator(self.estimator, folder / _FILE, metadata=notes)
        card = folder / "README.md"
        if not card.exists():
            text = model_card(folder / _FILE, repo_id=repo_id or folder.absolute().name)
            with whole_file(card) as part:
                part.write_text(text, encoding="utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> str:
        """Upload what `save_pretrained` writes; the repository is made if it does not exist.

        Args:
            repo_id: `"user/name"`.
            metadata: As for `save_pretrained`.
            private: Whether a new repository is private; by default as the account is set.
            token: By default that of `hf auth login`.
            **options: Those of `huggingface_hub.HfApi.upload_folder`, such as `commit_message`,
                `revision` and `create_pr`.

        Returns:
            The address of the commit.

        Raises:
            ImportError: If huggingface_hub is missing.
            ValueError: If `repo_id` is not of the form `"user/name"`.
        """
        api = _hub(repo_id).HfApi(token=token, library_name="eqrestore-lightning")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, metadata=metadata, repo_id=repo_id)
            api.create_repo(repo_id, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repo_id, folder_path=folder, **options)
        return str(commit.commit_url)


def _hub(name: str) -> Any:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII):
        raise ValueError(f"Expected `user/name`, or a folder that exists, but got {name!r}.")
    try:
        import huggingface_hub.errors
    except ImportError as error:
        raise ImportError(
            "Expected huggingface_hub to be installed: pip install 'eqrestore-lightning[hub]'"
        ) from error
    return huggingface_hub


def _downloaded(name: str, **options: Any) -> Path:
    """Return the path of the file of weights of a repository, downloaded unless it is at hand."""
    hub = _hub(name)
    api = hub.HfApi(library_name="eqrestore-lightning")
    try:
        return Path(api.hf_hub_download(name, _FILE, **options))
    except (
        hub.errors.EntryNotFoundError,
        hub.errors.RepositoryNotFoundError,
        hub.errors.RevisionNotFoundError,
    ) as error:
        raise FileNotFoundError(
            f"Expected {_FILE} in a folder {name}, or in a repository of that name on the Hub that "
            f"you may read, but found none: {error}"
        ) from error


def _shared_settings(notes: Mapping[str, str], path: Path) -> dict[str, float | None]:
    """Return `min_margin` and `prior` as they were shared; `__init__` checks their ranges."""
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
