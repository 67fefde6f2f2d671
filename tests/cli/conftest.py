import pytest
from torchvision.transforms.v2 import functional as TF

from eqrestore_lightning import DigitsDataModule, cli


@pytest.fixture
def digits(tmp_path):
    """Write shifted digits as an image folder, with their classes."""
    data = DigitsDataModule().dataset("test")
    folder = tmp_path / "digits"
    for number in range(60):
        image = data.images[number].roll((number % 7, -number % 5), (1, 2))
        path = folder / str(int(data.labels[number])) / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        TF.to_pil_image(image).save(path)
    return folder


@pytest.fixture(scope="session")
def tree():
    """Return every file below a folder, by name."""

    def content(folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return content


@pytest.fixture
def run(capsys):
    """Run `eqrestore` and return what it printed."""

    def run_command(*arguments):
        capsys.readouterr()
        cli.eqrestore([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run_command


@pytest.fixture
def fails(capsys):
    """Run `eqrestore`, which must end with exit status 2, and return its one line of error."""

    def run_command(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as status:
            cli.eqrestore([str(argument) for argument in arguments])
        assert status.value.code == 2
        message = capsys.readouterr().err
        (line,) = [line for line in message.splitlines() if line.startswith("eqrestore: ")]
        assert message.rstrip().endswith(line)
        return line

    return run_command
