import os
import shutil
from pathlib import Path

import pytest
import torch

# Tests fork processes; a process that has started OpenMP threads cannot be forked safely.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def build_trainer(tmp_path):
    """Build a `Trainer` on the CPU that shows, logs and keeps nothing."""
    import lightning

    def build(**options):
        defaults = {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
        }
        return lightning.Trainer(**{**defaults, **options})

    return build


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    root = os.environ.get("EQRESTORE_DATA")
    if root is None:
        pytest.skip("needs MNIST: set EQRESTORE_DATA to the folder that holds MNIST/raw")
    return Path(root)


@pytest.fixture(scope="session")
def cifar10_root() -> Path:
    root = Path(os.environ.get("EQRESTORE_DATA", "missing"))
    if not list(root.glob("cifar*")):
        pytest.skip("needs CIFAR-10: set EQRESTORE_DATA to the folder that holds it")
    return root


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, driven by playwright; tests that ask for it are skipped without one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"needs one of the browsers {', '.join(names)} on the PATH")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=sandbox)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Open pages in the light or dark scheme, and note what goes wrong in them, by page."""
    contexts = []

    def opened(problems, scheme="light"):
        contexts.append(browser.new_context(color_scheme=scheme))
        page = contexts[-1].new_page()

        def note(problem):
            problems.append(f"{page.url} ({scheme}): {problem}")

        def watch(request):
            if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                note(f"asks for {request.url}")

        page.on("console", lambda message: message.type in ("error", "warning") and note(message))
        page.on("pageerror", note)
        page.on("request", watch)

        def missed(request):
            if request.failure != "net::ERR_ABORTED":  # as when the page is left
                note(f"did not get {request.url}")

        page.on("requestfailed", missed)
        page.on("response", lambda got: got.status >= 400 and note(f"{got.status} for {got.url}"))
        return page

    yield opened
    for context in contexts:
        context.close()
