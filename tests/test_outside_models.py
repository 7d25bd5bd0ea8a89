"""Models outside the package: FILE.py:CLASS and entry points; and that a run's folder never starts code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import limner
from limner.cli import main
from limner.errors import LimnerError
from limner.models import MODELS, choose_model, find_model
from limner.models.outside import import_again, import_path
from limner.training.config import read_config

PAGE = Path(__file__).parents[1] / "docs" / "add-a-model.md"
MARK = "\nimport os, pathlib\npathlib.Path(os.environ['LIMNER_TEST_MARK']).open('a').write('ran ')\n"


def page_code() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return code


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that appears when the model's file is run."""
    monkeypatch.setenv("LIMNER_TEST_MARK", str(tmp_path / "mark"))
    return tmp_path / "mark"


@pytest.fixture
def model_file(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's model in a folder of its own, its networks' width in a module beside it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_width_of_layers.py").write_text("WIDTH = 8\n")
    code = page_code().replace("    width: int = 64\n", "    width: int = WIDTH\n")
    code = code.replace("\n\n\n@dataclass", "\nfrom my_width_of_layers import WIDTH\n\n\n@dataclass", 1)
    (folder / "hinge_gan.py").write_text(code + MARK, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "hinge_gan.py"
    sys.modules.pop("my_width_of_layers", None)


def forget_imports() -> None:
    """As a new process has it: no file was imported yet."""
    from limner.models import outside

    outside._import_file.cache_clear()
    for name in [name for name in sys.modules if name.startswith("limner_model_file_")]:
        del sys.modules[name]


def train(model: str, data: Path, out: Path, *more: str) -> int:
    words = ["--data", str(data), "--out", str(out), "--latent-dim", "6", "--batch-size", "8", "--kimg", "0.032"]
    return main(["train", model, *words, "--sample-kimg", "0.016", "--metrics-count", "16", *more])


def test_a_file_trains_and_every_verb_opens_its_run(
    model_file: Path, mark: Path, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, named = tmp_path / "run", f"{model_file}:HingeGAN"
    assert train(named, tiny_dataset_folder, run) == 0, capsys.readouterr().err
    assert f"--out sheet.png --model {named}\n" in capsys.readouterr().out, "the next command works as it is shown"
    facts = json.loads((run / "config.json").read_text())
    assert (facts["model_name"], facts["model_source"]) == ("hinge-gan", named)
    assert facts["model"]["width"] == 8

    forget_imports()
    mark.unlink()
    capsys.readouterr()
    picture = str(tmp_path / "faces.png")
    verbs = [["sample", str(run), "--seeds", "0-3", "--out", picture], ["walk", str(run), "--seeds", "1,2"]]
    verbs += [["evaluate", str(run), "--metrics", "swd", "--count", "16"], ["resume", str(run), "--kimg", "0.064"]]
    for words in verbs:
        assert main(words) == 2
        error = capsys.readouterr().err
        assert f"--model {named}" in error, words
        assert "runs that file: only if you trust it" in error
        assert len(error.strip().splitlines()) == 1
    assert not mark.exists(), "nothing is run because a folder names it"
    for words in (["report", str(run)], ["timelapse", str(run)]):
        assert main(words) == 0, "these need no model"
    page = (run / "report.html").read_text()
    assert "--kimg 0.048 --model FILE.py:CLASS" in page
    assert f"--model {named}" not in page, "a page that is handed on asks nobody to run a file"
    assert not mark.exists()

    for words in verbs:
        assert main([*words, "--model", named]) == 0, capsys.readouterr().err
    assert mark.read_text() == "ran ", "once, by the first of them"
    assert limner.load(run, model=named).checkpoint.images_seen == 64


def test_a_page_of_runs_of_ones_own_model(
    model_file: Path, mark: Path, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named, page = f"{model_file}:HingeGAN", tmp_path / "compare.html"
    runs = [tmp_path / "a", tmp_path / "b"]
    for number, run in enumerate(runs):
        assert train(named, tiny_dataset_folder, run, "--width", str(8 + 4 * number)) == 0
    forget_imports()
    mark.unlink()
    words = ["compare", *map(str, runs), "--out", str(page)]
    assert main(words) == 2
    assert "--model" in capsys.readouterr().err
    assert not mark.exists()
    assert main([*words, "--model", named]) == 0, capsys.readouterr().err
    assert page.exists()


def test_in_python_the_class_is_given_again(model_file: Path, tiny_dataset_folder: Path, tmp_path: Path) -> None:
    model_class = choose_model(f"{model_file}:HingeGAN")
    settings = {"data": tiny_dataset_folder, "batch_size": 8, "kimg": 0.032, "metrics": (), "latent_dim": 6}
    run = limner.train(model_class, out=tmp_path / "run", **settings)
    with pytest.raises(LimnerError, match="in Python model=HingeGAN"):
        limner.load(run)
    assert limner.load(run, model=model_class).generate(seeds=[1, 2]).shape == (2, 3, 16, 16)
    with pytest.raises(LimnerError, match="the run's model is 'hinge-gan', not 'dcgan'"):
        limner.load(run, model="dcgan")
    limner.resume(run, model=model_class, kimg=0.064)
    assert limner.load(run, model=model_class).checkpoint.images_seen == 64


def test_the_pre_flight_and_the_plan_try_a_files_model(
    model_file: Path, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = f"{model_file}:HingeGAN"
    assert train(named, tiny_dataset_folder, tmp_path / "run", "--preflight", "on") == 0, capsys.readouterr().err
    words = ["--latent-dim", "6", "--batch-size", "8", "--kimg", "0.032", "--data", str(tiny_dataset_folder)]
    assert main(["plan", named, *words]) == 0
    assert "hinge-gan 16²" in capsys.readouterr().out


def test_another_process_can_import_what_lies_in_a_module_only(model_file: Path) -> None:
    found = choose_model(f"{model_file}:HingeGAN")
    assert import_path(found) == f"{model_file}:HingeGAN"
    assert import_again(str(import_path(found))) is found
    assert import_path(MODELS["dcgan"]) == "limner.models.dcgan:DCGAN"
    assert import_again("limner.models.dcgan:DCGAN") is MODELS["dcgan"]

    class Local(MODELS["dcgan"]):  # type: ignore[name-defined, misc]
        pass

    assert import_path(Local) is None


CHANGED = {
    "no such file": (lambda path: f"{path.with_name('gone.py')}:HingeGAN", "no file"),
    "no class named": (lambda path: str(path), "which class"),
    "no such class": (lambda path: f"{path}:HingeGNA", "its models are HingeGAN"),
    "not a model": (lambda path: f"{path}:HingeGANConfig", "not a subclass of limner.models.Model"),
}


@pytest.mark.parametrize("mistake", CHANGED)
def test_a_wrong_name_of_a_file_is_one_line(model_file: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    named, says = CHANGED[mistake]
    assert main(["train", named(model_file)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "hinge-gan"', 'name = "dcgan"', "one of limner's own models"),
        ('name = "hinge-gan"', 'name = "../up"', "lower-case letters"),
        ('    name = "hinge-gan"\n', "", "does not define name"),
        ("    def forward(", "    def draw(", "does not define forward"),
        ("    def forward(", "    def generate(", "define forward(latents)"),
        ("latent_dim: int = 128", "latent_dim: int", "fields have defaults"),
        ("import torch\n", "import torch\nimport no_such_module\n", "ModuleNotFoundError: No module named"),
        ("class HingeGAN(Model):", "class HingeGAN(Model)::", "SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    model_file: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    code = model_file.read_text()
    assert old in code
    model_file.write_text(code.replace(old, new))
    assert main(["train", f"{model_file}:HingeGAN"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1


def install(folder: Path, package: str, name: str, value: str) -> None:
    """What pip leaves of a package that registers a model."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[limner.models]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    (folder / "hinge_package").mkdir(parents=True)
    (folder / "hinge_package" / "__init__.py").write_text("")
    (folder / "hinge_package" / "gan.py").write_text(page_code() + MARK, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.startswith("hinge_package")]:
        del sys.modules[name]


def test_an_installed_model_needs_no_flag(
    site: Path, mark: Path, tiny_dataset_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "hinge-package", "hinge-gan", "hinge_package.gan:HingeGAN")
    assert main(["models"]) == 0
    assert re.search(r"^hinge-gan +hinge GAN .* \(of hinge-package\)$", capsys.readouterr().out, re.M)
    run = tmp_path / "run"
    assert train("hinge-gan", tiny_dataset_folder, run, "--width", "8", "--preflight", "on") == 0
    assert json.loads((run / "config.json").read_text())["model_source"] == "hinge_package.gan:HingeGAN"
    assert main(["sample", str(run), "--seeds", "1"]) == 0
    assert read_config(run / "config.json")[0] is find_model("hinge-gan")


def test_built_in_names_and_other_packages_names_are_not_taken_over(
    site: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "rival", "dcgan", "hinge_package.gan:HingeGAN")
    install(site, "one", "twice", "hinge_package.gan:HingeGAN")
    install(site, "two", "twice", "hinge_package.other:HingeGAN")
    install(site, "three", "misnamed", "hinge_package.gan:HingeGAN")
    install(site, "four", "broken", "hinge_package.gone:Model")
    assert find_model("dcgan") is MODELS["dcgan"]
    assert not mark.exists()
    for name, says in {
        "twice": "registered by",
        "misnamed": "named 'hinge-gan'",
        "broken": "cannot be imported",
    }.items():
        with pytest.raises(LimnerError, match=says):
            find_model(name)
    assert main(["models"]) == 0, "one that is broken hides no other"
    out = capsys.readouterr().out
    assert "of rival: not used, because limner has a model of that name" in out
    assert "broken     (not usable: " in out


def test_what_a_run_says_of_its_model_is_shown_harmlessly(tmp_path: Path, model_file: Path, mark: Path) -> None:
    from limner.models import model_of_run

    where = Path("config.json")
    with pytest.raises(LimnerError) as caught:
        model_of_run("x", f"{model_file}\n\x1b[31m; rm -rf ~ .py:Evil", None, where)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert re.search(r"--model '[^']*rm -rf[^']*'", str(caught.value)), "quoted for a shell"
    for source in (None, 7, "package.module:Class", f"{model_file}:HingeGAN"):
        with pytest.raises(LimnerError):
            model_of_run("hinge-gan", source, None, where)
    assert not mark.exists()
