"""Restorers in folders and on the Hub; the Hub is a stub on this machine."""

import importlib
import json
import pickle
import re
import sys

import pytest
import torch
from hub_stub import HubStub

from eqrestore_lightning import RestoreTransform, RotationEstimator, TranslationEstimator
from eqrestore_lightning.weights import save_estimator
from eqrestore_lightning.weights._files import read_notes

X = torch.rand(3, 1, 8, 9)
FILE = "model.safetensors"


def _restorer(**settings):
    return RestoreTransform(
        TranslationEstimator(1, (8, 9), hidden_channels=[2], kernel_size=3), **settings
    )


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    older = importlib.import_module("huggingface_hub.file_download")  # has a copy of the template
    with HubStub() as stub:
        template = f"{stub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", stub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(older, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield stub


@pytest.fixture
def load(tmp_path):
    """Load from the Hub, with a cache of this test's own."""

    def from_pretrained(name, **options):
        return RestoreTransform.from_pretrained(name, cache_dir=tmp_path / "cache", **options)

    return from_pretrained


def _assert_same(loaded, restore, x=X):
    assert loaded.min_margin == restore.min_margin
    assert loaded.prior == restore.prior
    assert torch.equal(loaded.estimator.exact_scores(x), restore.estimator.exact_scores(x))
    assert torch.equal(loaded(x), restore(x))


@pytest.mark.parametrize(
    "settings", [{}, {"min_margin": 2.5}, {"prior": 0.95}, {"min_margin": 3, "prior": 0.5}]
)
def test_a_folder_keeps_weights_and_settings(settings, tmp_path):
    restore = _restorer(**settings)
    restore.save_pretrained(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["README.md", FILE]
    _assert_same(RestoreTransform.from_pretrained(tmp_path / "mine"), restore)
    _assert_same(RestoreTransform.from_pretrained(str(tmp_path / "mine")), restore)
    changed = RestoreTransform.from_pretrained(tmp_path / "mine", min_margin=7, prior=None)
    assert (changed.min_margin, changed.prior) == (7, None)


def test_a_folder_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    restore = RestoreTransform(
        RotationEstimator(1, (8, 8), num_radii=3, num_angles=8, kernel_size=3)
    )
    restore.save_pretrained("user/name")
    _assert_same(RestoreTransform.from_pretrained("user/name"), restore, X[..., :8])
    with pytest.raises(FileNotFoundError, match="Expected a file of weights, but found none at"):
        RestoreTransform.from_pretrained("user")
    with pytest.raises(ValueError, match=r"Expected no options of the Hub with a folder, .*'v1'"):
        RestoreTransform.from_pretrained("user/name", revision="v1")


def test_without_huggingface_hub_an_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    told = re.escape("huggingface_hub to be installed: pip install 'eqrestore-lightning[hub]'")
    with pytest.raises(ImportError, match=told):
        RestoreTransform.from_pretrained("user/name")
    with pytest.raises(ImportError, match=told):
        _restorer().push_to_hub("user/name")


def test_weights_are_replaced_and_an_edited_card_is_kept(tmp_path):
    _restorer().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("edited")
    restore = _restorer(min_margin=1)
    restore.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "edited"
    _assert_same(RestoreTransform.from_pretrained(tmp_path), restore)


def test_notes_stay_with_the_weights(tmp_path):
    restore = RestoreTransform("photo", min_margin=3)
    restore.save_pretrained(tmp_path / "a", metadata={"license": "cc0-1.0"})
    again = RestoreTransform.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b", repo_id="me/mine")
    notes = read_notes(tmp_path / "b" / FILE)
    assert json.loads(notes["settings"]) == {"min_margin": 3, "prior": None}
    assert json.loads(notes["notes"])["command"].startswith("python recipes/photo.py")
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc0-1.0"\nlibrary_name: eqrestore-lightning\n')
    assert 'RestoreTransform.from_pretrained("me/mine")' in card
    for told in (
        "circular shifts of photographs of any size",
        "98.25 %",
        "## Not for",
        "CC BY 2.0",
    ):
        assert told in card


def test_what_was_pushed_is_loaded(hub, load, tmp_path):
    first, second = _restorer(prior=0.9), _restorer(min_margin=2)
    address = first.push_to_hub("me/digits", metadata={"license": "mit"})
    ((commit, files),) = hub.repositories["me/digits"]
    assert address == f"{hub.url}/me/digits/commit/{commit}"
    assert sorted(files) == ["README.md", FILE]
    assert 'from_pretrained("me/digits")' in files["README.md"].decode()
    _assert_same(load("me/digits"), first)
    second.push_to_hub("me/digits")
    _assert_same(load("me/digits"), second)
    _assert_same(load("me/digits", revision=commit), first)  # pinned
    _assert_same(load("me/digits", revision=commit, local_files_only=True), first)
    assert list((tmp_path / "cache").rglob("README.md")) == []
    with pytest.raises(FileNotFoundError, match=r"in a repository of that name on the Hub that yo"):
        load("me/digits", revision="b" * 40)


def test_private_repositories_take_a_token(hub, load, tmp_path):
    hub.token = "hf_secret"
    restore = _restorer()
    restore.push_to_hub("me/own", token="hf_secret", private=True)
    _assert_same(load("me/own", token="hf_secret"), restore)
    with pytest.raises(
        FileNotFoundError, match=r"model\.safetensors in a folder me/own, or in a rep"
    ):
        RestoreTransform.from_pretrained("me/own", cache_dir=tmp_path / "other")


@pytest.mark.parametrize(
    "name", ["name", "../name", "a/../b", "a/b/c", "a/", "/missing", "a/b c", "a/b?x", "a\n/b"]
)
def test_other_names_are_refused(name, hub, load):
    told = re.escape(f"Expected `user/name`, or a folder that exists, but got {name!r}.")
    with pytest.raises(ValueError, match=told):
        load(name)
    with pytest.raises(ValueError, match=told):
        _restorer().push_to_hub(name)
    assert hub.requests == []


class _Malicious:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_a_repository_of_pickles_is_refused_and_nothing_of_it_is_fetched(
    hub, load, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    hub.commit("he/evil", {"pytorch_model.bin": pickle.dumps(_Malicious()), "config.json": b"{}"})
    with pytest.raises(FileNotFoundError, match=r"Expected model\.safetensors in .* he/evil, or"):
        load("he/evil")
    asked = [path for _, path in hub.requests if path.startswith("/he/")]
    assert set(asked) == {f"/he/evil/resolve/main/{FILE}"}
    hub.commit("he/evil", {FILE: pickle.dumps(_Malicious())})
    with pytest.raises(ValueError, match="to be a safetensors file, but got"):
        load("he/evil")
    assert not (tmp_path / "executed").exists()


def _saved(tmp_path, settings="{}"):
    save_estimator(_restorer().estimator, tmp_path / FILE, metadata={"settings": settings})
    return tmp_path / FILE


def test_other_files_are_refused_from_folder_and_hub(hub, load, tmp_path):
    path = _saved(tmp_path)
    content = path.read_bytes()
    hub.commit("he/good", {FILE: content})
    load("he/good")
    bad = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(bad)
    hub.commit("he/bad", {FILE: bad})
    for source in ("he/bad", tmp_path):
        with pytest.raises(ValueError, match="the file is damaged, was changed"):
            load(source) if source == "he/bad" else RestoreTransform.from_pretrained(source)


@pytest.mark.parametrize(
    "settings",
    [
        "[]",
        "{",
        '{"min_margin": null}',
        '{"min_margin": true}',
        '{"min_margin": "3"}',
        '{"source": "/etc/passwd"}',
        '{"min_margin": 0, "angle": 3}',
        "[" * 10_000,
    ],
)
def test_other_settings_are_refused(settings, tmp_path):
    RestoreTransform.from_pretrained(_saved(tmp_path, '{"min_margin": 1, "prior": null}').parent)
    path = _saved(tmp_path, settings)
    with pytest.raises(ValueError, match=r"the settings in .* to be `min_margin` and `prior`, num"):
        RestoreTransform.from_pretrained(path.parent)


@pytest.mark.parametrize("settings", ['{"min_margin": NaN}', '{"min_margin": -1}', '{"prior": 1}'])
def test_settings_out_of_range_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match=r"Expected `(min_margin|prior)` to be "):
        RestoreTransform.from_pretrained(_saved(tmp_path, settings).parent)
