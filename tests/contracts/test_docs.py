"""What the documents say must be true: links, study files, code, commands, dependencies."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from shrinkproof.cli.application import app
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.scales import scales_of, with_scale

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "studies").rglob("*.md")]
)
FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\bshrinkproof ([a-z]+)\b")
VERB = re.compile(r"\bmake ((?:[a-z]+-?)+)\b")


def name_of(document):
    return document.relative_to(ROOT).as_posix()


def normalized(name):
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(language):
    return [
        pytest.param(text, id=f"{name_of(document)}-{number}")
        for document in DOCUMENTS
        for number, (_, found, text) in enumerate(FENCE.findall(document.read_text("utf-8")))
        if found == language
    ]


def code_of(document):
    """Return the parts of a document that are set as code: fenced blocks and inline spans."""
    text = document.read_text("utf-8")
    fenced = [found[2] for found in FENCE.findall(text) if found[1] in ("", "sh", "text")]
    return [*fenced, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]


def anchors(document):
    """Return the anchors that a document's headings make."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    return sorted({normalized(re.match(r"[\w.-]+", entry)[0]) for entry in wanted})


def test_the_documents_are_found():
    names = {name_of(document) for document in DOCUMENTS}
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/concepts.md"} <= names


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(document):
    for target in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{name_of(document)}: {target} does not exist"
        assert not anchor or anchor in anchors(place), (
            f"{name_of(document)}: {target} has no heading"
        )


@pytest.mark.parametrize("text", blocks("yaml"))
def test_studies_load(text):
    if text.startswith("study:"):
        assert load_study_spec(text).models


@pytest.mark.parametrize("text", blocks("yaml"))
def test_steps_can_be_built(text):
    if text.lstrip().startswith(("- ", "#")):
        for step in yaml.safe_load(text):
            ((name, settings),) = step.items()
            assert COMPRESSORS.create(name, settings).name == name


def test_the_readme_shows_a_study_that_fits_on_a_screen():
    studies = [
        t for _, lang, t in FENCE.findall((ROOT / "README.md").read_text()) if lang == "yaml"
    ]
    assert any(text.startswith("study:") for text in studies)
    assert all(len(text.splitlines()) <= 25 for text in studies)


def studies_and_scales():
    for path in sorted((ROOT / "studies").glob("*.yaml")):
        for scale in scales_of(path.read_text("utf-8"), path.name) or ("",):
            yield pytest.param(path, scale, id=f"{path.name} {scale}".strip())


@pytest.mark.parametrize(("path", "scale"), list(studies_and_scales()))
def test_the_studies_of_the_repository_load(path, scale):
    text = path.read_text("utf-8")
    spec = load_study_spec(with_scale(text, scale) if scale else text, filename=path.name)
    assert bool(spec.candidate_recipes()) == bool(spec.recipes)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_compile(text):
    compile(text, "<document>", "exec")


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_parse(text):
    assert tomllib.loads(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_and_verbs_exist(document):
    commands = set(get_command(app).commands)
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for text in code_of(document):
        assert set(COMMAND.findall(text)) <= commands, f"{name_of(document)}: {text}"
        assert set(VERB.findall(text)) <= verbs, f"{name_of(document)}: {text}"


def test_options_of_the_readme_exist():
    options = {
        option
        for command in get_command(app).commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    used = set()
    for text in code_of(ROOT / "README.md"):
        if "shrinkproof" in text or text.startswith("--"):
            used |= set(re.findall(r"(?<!\S)--[a-z-]+", text))
    assert {"--root", "--limit"} <= used
    assert used <= options


def test_the_readme_starts_with_the_commands():
    before, _, rest = (ROOT / "README.md").read_text("utf-8").partition("```sh\n")
    assert len(before.split()) <= 60
    assert [line.split("#")[0].strip() for line in rest.splitlines()[:2]] == [
        "make demo",
        "make test",
    ]


def test_decisions_are_numbered_without_gaps_and_listed():
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    numbers = [path.name[:4] for path in pages]
    assert numbers == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    index = (folder / "README.md").read_text("utf-8")
    for page in pages:
        text = page.read_text("utf-8")
        assert f"[{page.name[:4]}]({page.name})" in index
        assert text.startswith(f"# {page.name[:4]} ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ]
        assert len(text.splitlines()) <= 40


@pytest.mark.parametrize("dependency", dependencies())
def test_dependencies_are_explained_and_pinned(dependency):
    explained = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    rows = {normalized(name) for name in re.findall(r"^\| ([\w.-]+) \|", explained, re.MULTILINE)}
    assert dependency in rows
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    assert dependency in {normalized(n) for n in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}


def test_the_layers_of_the_documents_are_those_of_the_linter():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contract = next(c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert "```\n" + "\n".join(contract["layers"]) + "\n```" in text
    page = (ROOT / "docs" / "decisions" / "0001-results-layer.md").read_text("utf-8")
    indented = " ".join(line.strip() for line in page.splitlines() if line.startswith("    "))
    assert indented == " > ".join(contract["layers"])


def test_the_hook_runs_the_pinned_ruff():
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    version = re.search(r"^ruff==(\S+)$", pins, re.MULTILINE)[1]
    assert f"ruff-pre-commit\n    rev: v{version}" in hooks
