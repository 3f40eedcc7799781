"""What the documents say is so: made tables, figures, links, commands, settings, metrics and tests that they name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from engine.parameters import ClassParameters, Parameters
from grafana.alerts import ALERTS_TABLE
from grafana.recordings import recordings
from grafana.windows import Windows
from streams.documents import MadeTable, allowed_values, as_table, as_written, renewed
from streams.margin_examples import HEDGE_BLOCK, OPTIONS_BLOCK, POOL_BLOCK
from streams.messages import TOPIC_TABLE
from streams.metrics import METRICS_TABLE, Metrics
from streams.parameters import CLASSES_TABLE, OF_A_CLASS, OF_A_SET, PARAMETERS_TABLE, read_parameters
from streams.presets import PRESETS_TABLE
from streams.replay_watch import REPLAY_METRICS_TABLE, ReplayMetrics
from streams.rule_list import TABLE as RULES_TABLE
from streams.settings import OTHER_VARIABLES, SETTINGS_TABLE, Security, Settings, load_settings
from tests.given_commands import parse_command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
UNITS = {"KiB": 1024, "MiB": 1024**2, "s": 1}

MADE = [
    ("README.md", TOPIC_TABLE),
    ("docs/topics.md", TOPIC_TABLE),
    ("docs/operation.md", SETTINGS_TABLE),
    ("docs/operation.md", PARAMETERS_TABLE),
    ("docs/operation.md", CLASSES_TABLE),
    ("docs/operation.md", PRESETS_TABLE),
    ("docs/rules.md", RULES_TABLE),
    ("docs/margin.md", HEDGE_BLOCK),
    ("docs/margin.md", POOL_BLOCK),
    ("docs/margin.md", OPTIONS_BLOCK),
    ("docs/metrics.md", METRICS_TABLE),
    ("docs/metrics.md", REPLAY_METRICS_TABLE),
    ("docs/monitoring.md", ALERTS_TABLE),
]


def text_of(path: str) -> str:
    return (ROOT / path).read_text()


def everything() -> str:
    return "\n".join(text_of(path) for path in DOCUMENTS)


# ---- made tables ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "table"), MADE, ids=[f"{path} {table.name}" for path, table in MADE])
def test_a_made_table_is_current(path: str, table: MadeTable) -> None:
    text = text_of(path)
    assert renewed(text, table) == text, f"run: python -m {table.module} {path}"
    assert table.make() in text


def test_no_document_has_a_made_table_that_nobody_renews() -> None:
    marked = {
        (path, name)
        for path in DOCUMENTS
        for name in re.findall(r"<!-- (\w+): made by `python -m (?:streams|grafana)\.(?!demo|command_line backtest)", text_of(path))
    }
    assert marked == {(path, table.name) for path, table in MADE}


def test_a_document_without_one_place_for_the_table_says_so() -> None:
    table = MadeTable("things", "streams.things", lambda: "| new |\n")
    begin, end = table.begin, table.end
    for text in ("", begin, end, f"{end}{begin}", f"{begin}{end}{begin}{end}"):
        with pytest.raises(ValueError, match="where the table of things should stand"):
            renewed(text, table)
    assert renewed(f"a\n{begin}\nold\n{end}\nb", table) == f"a\n{begin}\n\n| new |\n\n{end}\nb"


def test_cells_and_ranges_in_words() -> None:
    assert as_table(["a", "b"], [["x|y", "2"]]) == "| a | b |\n|---|---|\n| x\\|y | 2 |\n"
    assert allowed_values({"type": "integer", "minimum": 1, "maximum": 10_000}) == "whole number, from 1 to 10,000"
    assert allowed_values({"type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0}) == "number, above 0 and below 1"
    assert allowed_values({"anyOf": [{"type": "string", "format": "path"}, {"type": "null"}]}) == "path"
    assert [as_written(value) for value in (None, True, 9464, 3_600_000, 0.05, ("a", "b"))] == [
        "",
        "true",
        "9464",
        "3_600_000",
        "0.05",
        "a, b",
    ]


def test_every_setting_parameter_and_metric_says_what_it_is() -> None:
    for section in (Settings, Security):
        assert [name for name, field in section.model_fields.items() if not field.description] == []
    assert set(OF_A_SET) == set(Parameters.model_fields) - {"classes"}
    assert set(OF_A_CLASS) == set(ClassParameters.model_fields)
    for family in [*Metrics().registry.collect(), *ReplayMetrics().registry.collect()]:
        assert family.documentation


# ---- what documents name --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(path))
    missing = []
    for link in links:
        target, _, heading = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        found = (ROOT / path).parent / target if target else ROOT / path
        if not found.exists() or (heading and heading not in headings(found)):
            missing.append(link)
    assert missing == []


def headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as they are made by those who show Markdown."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def commands() -> list[str]:
    lines = re.findall(r"^\$ plimsoll (.+)$", everything(), re.MULTILINE)
    return sorted({line.partition("  #")[0].strip() for line in lines})


@pytest.mark.parametrize("line", commands())
def test_commands_can_be_given_as_they_are_shown(line: str) -> None:
    parse_command(line)


def test_variables_that_are_named_exist() -> None:
    known = {f"PLIMSOLL_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    known |= {f"PLIMSOLL_SECURITY__{name.upper()}" for name in Security.model_fields}
    named = set(re.findall(r"PLIMSOLL_[A-Z_]+[A-Z]", everything()))
    assert named - known == set()


def test_metrics_that_are_named_exist() -> None:
    known = set(re.findall(r"`(plimsoll_\w+)`", METRICS_TABLE.make() + REPLAY_METRICS_TABLE.make()))
    text = everything()
    for recording in recordings(Windows()):
        text = text.replace(recording.name, "")
    named = set(re.findall(r"plimsoll_[a-z_]+[a-z]", text))
    assert {name.removesuffix("_bucket") for name in named} - known == set()


def test_tests_that_are_named_exist() -> None:
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", everything()))
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def test_examples_of_settings_and_parameters_can_be_used(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", everything(), re.DOTALL)
    examples += re.findall(r"\$ cat plimsoll\.toml\n(.*?)\n\$ ", everything(), re.DOTALL)
    assert len(examples) > 3
    there = tmp_path / "secret"
    there.write_text("x")
    file = tmp_path / "example.toml"
    for example in examples:
        if example.startswith("# parameters"):
            file.write_text(example)
            assert read_parameters(file).version in example
        else:
            file.write_text(re.sub(r'(_file = )".*"', rf'\1"{there}"', example))
            assert load_settings(file, environment={}) != Settings()


# ---- bounds ---------------------------------------------------------------------------------------------------------------------------

BOUND = re.compile(r"^\| \[`(\w+)`\]\(\.\./(engine|streams)/([\w/]+)\.py\) \| ([\d,]+)(\^(\d+))? ?(\w*) \|", re.MULTILINE)


def bounds_told() -> dict[str, tuple[str, int]]:
    """{constant: (its module, the figure in the constant's unit)} of the tables of bounds."""
    told = {}
    for name, package, module, digits, _, power, unit in BOUND.findall(text_of("docs/architecture.md")):
        number = int(digits.replace(",", "")) ** int(power or 1) * UNITS.get(unit, 1)
        if unit == "s":
            number *= 1_000_000_000 if name.endswith("_NS") else 1_000 if name.endswith("_MS") else 1
        told[name] = (f"{package}.{module.replace('/', '.')}", number)
    return told


def test_the_figures_of_the_bounds_are_those_of_the_code() -> None:
    told = bounds_told()
    assert len(told) > 50
    code = {name: (module, getattr(importlib.import_module(module), name)) for name, (module, _) in told.items()}
    assert told == code


def test_every_bound_in_the_code_is_told() -> None:
    text = text_of("docs/architecture.md")
    missing = []
    for package in ("engine", "streams"):
        for path in sorted(
            [*(ROOT / package).glob("*.py"), *(ROOT / package / "console").glob("*.py"), *(ROOT / package / "shadow").glob("*.py")]
        ):
            names = re.findall(r"^([A-Z][A-Z_]*)(?:: Final)? = ", path.read_text(), re.MULTILINE)
            missing += [f"{path.name} {name}" for name in names if re.search(r"(^|_)MAX(_|$)", name) and f"`{name}`" not in text]
    assert missing == []
