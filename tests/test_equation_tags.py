"""A line of code tagged `# (3)` computes equation (3) of its file's paper, and the file's docstring says so."""

import ast
import re
from pathlib import Path

import pytest

import limner.models
from limner.models import MODELS

NO_PAPERS = ("__init__.py", "base.py", "outside.py")
FILES = sorted(p for p in Path(limner.models.__file__).parent.glob("*.py") if p.name not in NO_PAPERS)
TAG = re.compile(r"#\s*(\(\d+[a-z]?\))\s*$", re.M)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_model_file_opens_with_its_paper(file):
    doc = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", doc), "the citation with its arXiv number"
    assert "Departures from the paper:" in doc


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_tag_is_cited_in_the_docstring(file):
    text = file.read_text()
    tags = set(TAG.findall(text))
    doc = ast.get_docstring(ast.parse(text)) or ""
    assert tags or "Numbers of equations are left out" in doc, "no line says which equation it computes"
    cited = {line.strip().split()[0] for line in doc.splitlines() if re.match(r"\s*\(\d+[a-z]?\)\s", line)}
    assert tags <= cited, f"{tags - cited} is computed but not quoted at the top of the file"
    assert cited <= tags, f"{cited - tags} is quoted at the top but no line computes it"


def test_every_model_has_a_file_of_its_own():
    homes = [model.__module__ for model in MODELS.values()]
    assert len(set(homes)) == len(homes)
    assert {home.rsplit(".", 1)[1] for home in homes} == {file.stem for file in FILES}


def test_models_do_not_import_training_data_or_metrics():
    forbidden = re.compile(r"^\s*(?:from|import)\s+limner\.(training|data|metrics|explore|exchange)", re.M)
    for file in FILES:
        assert not forbidden.search(file.read_text()), file.name
