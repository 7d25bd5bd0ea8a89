"""The command line: every verb explains itself, every mistake is one line with an exit code."""

import json
import subprocess
import sys

import pytest

from limner.cli import HELP, SYNONYMS, main
from limner.models import MODELS

VERBS = ["train", "resume", "sample", "evaluate", "compare", "report"]
VERBS += ["completion"]
VERBS += [f"data {verb}" for verb in ("prepare", "heads", "celeba-tree", "info", "probe", "statistics", "check")]


def run(capsys, *words: str) -> tuple[int, str, str]:
    try:
        code = main(list(words))
    except SystemExit as stop:  # how a parser ends after --help or a wrong flag
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_lists_every_verb(capsys):
    for words in ((), ("--help",), ("-h",)):
        code, out, _ = run(capsys, *words)
        assert code == 0
        assert out == HELP
    for verb in VERBS:
        assert f"  {verb} " in HELP


@pytest.mark.parametrize("verb", [*VERBS, "train dcgan", "train wgan-gp"])
def test_every_verb_explains_itself(capsys, verb):
    code, out, err = run(capsys, *verb.split(), "--help")
    assert code == 0, err
    assert len(out.split()) > 12


def test_a_models_own_settings_are_explained_with_its_paper(capsys):
    _, out, _ = run(capsys, "train", "wgan-gp", "--help")
    assert "--gp-weight" in out
    assert "algorithm 1" in out
    assert "--kimg" in out


def test_models_lists_each_with_a_line(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("dcgan")
    assert [line.split()[0] for line in lines[: len(MODELS)]] == list(MODELS)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["trian"], 2, "did you mean 'train'"),
        (["list"], 2, "did you mean 'models'"),
        (["ls"], 2, "did you mean 'models'"),
        (["generate"], 2, "did you mean 'sample'"),
        (["fid"], 2, "did you mean 'evaluate'"),
        (["interpolte"], 2, "did you mean 'walk'"),
        (["prepare"], 2, "did you mean 'data prepare'"),
        (["resum"], 2, "did you mean 'resume'"),
        (["data", "stats"], 2, "did you mean 'statistics'"),
        (["data", "ls"], 2, "there are: data prepare"),
        (["data", "prep"], 2, "did you mean 'prepare'"),
        (["train", "wgangp"], 2, "wgan-gp"),
        (["resume"], 2, "which run"),
        (["resume", "nowhere"], 2, "no such run"),
        (["sample", "nowhere"], 2, "no such run"),
        (["evaluate", "nowhere"], 2, "nowhere"),
        (["report", "nowhere"], 2, "nowhere"),
        (["models", "x"], 2, "takes no argument"),
        (["train", "dcgan", "--data", "nowhere"], 3, "nowhere"),
        (["train", "dcgan", "--device", "gpu9"], 2, "gpu9"),
        (["train", "dcgan", "--kimg", "-1"], 2, "kimg"),
    ],
)
def test_mistakes_are_one_line_with_an_exit_code(capsys, tmp_path, monkeypatch, words, code, says):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, *words)
    assert found == code
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [], "nothing was made"


@pytest.mark.parametrize("flag", ["--learning-rat", "--kimgs"])
def test_a_misspelt_flag_is_answered_with_a_near_one(capsys, flag):
    code, out, err = run(capsys, "train", "dcgan", flag, "1")
    assert code == 2
    assert {"--learning-rat": "--learning-rate", "--kimgs": "--kimg"}[flag] in out + err


def train(capsys, dataset, folder, *more: str) -> tuple[int, str, str]:
    words = ["train", "wgan-gp", "--data", str(dataset.folder), "--out", str(folder), "--resolution", "16"]
    small = ["--width", "4", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.08", "--metrics-count", "16"]
    return run(capsys, *words, *small, *more)


def test_train_sample_evaluate_resume_end_to_end(capsys, tiny_dataset, tmp_path):
    folder = tmp_path / "run"
    code, out, err = train(capsys, tiny_dataset, folder, "--tick-kimg", "0.04", "--sample-kimg", "0.04")
    assert code == 0, err
    assert str(folder / "report.html") in out
    assert "images/s" in err, "progress is shown"
    for name in ("config.json", "log.jsonl", "report.html", "samples/images-000000000080.png"):
        assert (folder / name).stat().st_size > 0
    assert (folder / "checkpoints" / "images-000000000080.safetensors").exists()
    assert len(list((folder / "metrics").glob("*.json"))) == 2

    code, out, err = run(capsys, "sample", str(folder), "--seeds", "3,5-7", "--out", str(tmp_path / "faces.png"))
    assert code == 0, err
    assert (tmp_path / "faces.png").stat().st_size > 0

    code, out, err = run(capsys, "evaluate", str(folder), "--count", "20", "--split", "all")
    assert code == 0, err
    assert "swd_20" in out
    assert "ms_ssim_20" in out

    (folder / "report.html").unlink()
    code, out, err = run(capsys, "report", str(folder))
    assert code == 0, err
    assert (folder / "report.html").stat().st_size > 0

    code, _, err = run(capsys, "resume", str(folder))
    assert code == 2
    assert "--kimg" in err
    code, _, err = run(capsys, "resume", str(folder), "--kimg", "0.12")
    assert code == 0, err
    assert json.loads((folder / "config.json").read_text())["kimg"] == 0.12
    code, _, err = run(capsys, "resume", str(folder), "--kimg", "0.2", "--gp-weight", "3")
    assert code == 4
    assert "model.gp_weight: 10.0 → 3.0" in err

    code, _, err = train(capsys, tiny_dataset, folder)
    assert code == 2
    assert "limner resume" in err


def test_runs_are_numbered_under_runs(capsys, tiny_dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--width", "4", "--latent-dim", "4", "--batch-size", "8", "--kimg", "0.016", "--metrics-count", "16"]
    for number in ("001", "002"):
        code, out, err = run(capsys, "train", "dcgan", "--data", str(tiny_dataset.folder), "--resolution", "16", *small)
        assert code == 0, err
        name = tiny_dataset.name.removesuffix("-16")
        assert f"runs/dcgan-{name}-16-{number}" in out
        assert (tmp_path / "runs" / f"dcgan-{name}-16-{number}" / "report.html").exists()


def test_conditional_training_from_the_command_line(capsys, tiny_dataset, tmp_path):
    names = tiny_dataset.attribute_names
    code, _, err = train(capsys, tiny_dataset, tmp_path / "run", "--attributes", ",".join(names[:2]))
    assert code == 0, err
    import limner

    model = limner.load(tmp_path / "run")
    assert model.latents.split(model.latents.sample_seeds([1]))["attributes"].shape == (1, 2)
    code, _, err = train(capsys, tiny_dataset, tmp_path / "other", "--attributes", "Grumpy")
    assert code == 2
    assert "Grumpy" in err
    assert names[0] in err


def test_attributes_are_taken_where_data_and_model_have_any(capsys, tiny_dataset, tmp_path):
    """`--attributes auto`, the default, is written down as what it meant; a model that takes none refuses them."""
    assert train(capsys, tiny_dataset, tmp_path / "run")[0] == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["attributes"] == "all"
    data = ["--data", str(tiny_dataset.folder), "--resolution", "16", "--width", "4", "--latent-dim", "4"]
    short = ["--batch-size", "8", "--kimg", "0.016", "--metrics", "--out"]
    for codes, meant in (("paper", "none"), ("attributes", "all")):
        folder = tmp_path / codes
        code, _, err = run(capsys, "train", "infogan", *data, "--codes", codes, *short, str(folder))
        assert code == 0, err
        assert json.loads((folder / "config.json").read_text())["attributes"] == meant
    wanted = ["--attributes", tiny_dataset.attribute_names[0]]
    code, _, err = run(capsys, "train", "infogan", *data, *wanted, *short, str(tmp_path / "refused"))
    assert code == 2
    assert "infogan with these settings takes none" in err
    assert not (tmp_path / "refused").exists()


def test_a_bug_is_one_line_and_debug_shows_where(capsys, monkeypatch):
    monkeypatch.setattr("limner.cli._models", lambda words: 1 / 0)
    code, _, err = run(capsys, "models")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert len(err.strip().splitlines()) == 1
    _, _, err = run(capsys, "models", "--debug")
    assert "Traceback" in err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m limner --help | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("limner:")
    assert done.stderr == ""


def test_a_word_without_a_near_verb_gets_no_guess(capsys):
    _, _, err = run(capsys, "xyzzy")
    assert err == "limner: 'xyzzy' is not a verb; see `limner --help`\n"


def test_every_synonym_leads_to_a_verb(capsys):
    for verb, others in SYNONYMS.items():
        code, _, err = run(capsys, *verb.split(), "--help")
        assert code == 0, err
        for other in others:
            assert f"did you mean {verb!r}" in run(capsys, other)[2]
