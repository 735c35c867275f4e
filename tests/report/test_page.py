from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.report.factory import ERROR, ODD_SOURCE, ODD_TARGET, SOURCES, TARGETS, inputs
from tests.stats.tables import row

from layover.report import figures, words
from layover.report.answer import answers
from layover.report.build import build
from layover.report.colours import shade
from layover.report.facts import ReportInputs, TaskFacts
from layover.report.limits import limits, troubles
from layover.report.outputs import write_figures, write_tables
from layover.report.words import plain, seconds
from layover.stats.power import typical
from layover.stats.table import check
from layover.stats.transfer import transfer


class Page(HTMLParser):
    """The elements of a page and its text without style and script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self._inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study():
    return inputs()


@pytest.fixture(scope="module")
def html(study):
    return build(study)


def test_the_answer_comes_first_and_is_made_of_the_numbers(study, html):
    cell = study.transfer[0].matrix().cells["mnli", "rte"]
    (answer,) = answers(study.transfer)
    assert answer.lead == "stilts pays in 1 of 9 cells and hurts in 1; 7 are within noise."
    details = dict(answer.details)
    assert details["Pays"] == f"mnli → rte {words.points(cell.delta)} (95% {words.interval(cell.low, cell.high)})."
    assert details["Hurts"].startswith("commonsenseqa → cb −")
    assert details["Collapse"].startswith("1 of 34 runs (2.9%) learnt nothing (degenerate); without them")
    text = Page(html).text
    assert text.index(answer.lead) < text.index(details["Pays"]) < text.index("Differences to direct")


def test_every_number_of_the_matrix_is_on_the_page(study, html):
    text = Page(html).text
    for cell in study.transfer[0].matrix().cells.values():
        shown = [words.points(cell.delta), words.interval(cell.low, cell.high), words.p_value(cell.p_adjusted)]
        assert all(number in text for number in shown)


def test_data_never_becomes_html(html):
    page = Page(html)
    assert [attrs.get("type") for tag, attrs in page.tags if tag == "script"] == ["application/json", None]
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object")]
    assert not [attrs for tag, attrs in page.tags if tag == "b" and "style" not in attrs]  # the dots of intervals
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    for name in (ODD_SOURCE, ODD_TARGET, ERROR):
        assert name in page.text
    assert "<script>alert" not in html


@pytest.mark.parametrize("where", ["name", "provenance", "task", "recipe", "generated", "key", "curve"])
def test_markup_in_any_field_is_shown_as_text(study, where):
    evil = '"><script>alert(1)</script>'
    runs = [replace(run, recipe={"optimizer": evil}) for run in study.runs] if where == "recipe" else study.runs
    if where == "key":
        runs = [replace(study.runs[0], key=evil, start=evil)]
    if where == "curve":
        runs = [replace(study.runs[0], task=evil, lineage=["minilm", evil, evil])]
    changed = replace(
        study,
        study=study.study | ({"name": evil} if where == "name" else {}),
        provenance={evil: evil} if where == "provenance" else {},
        tasks=[TaskFacts(evil, evil, evil, evil)] if where == "task" else [],
        generated=evil if where == "generated" else "",
        runs=runs,
        transfer=study.transfer[:1],
    )
    changed_html = build(changed)
    page = Page(changed_html)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "<script>alert(1)</script>" not in changed_html
    shown = evil[:12] if where == "key" else evil  # keys are shown shortened
    assert shown in page.text or any(shown in str(attrs) for _, attrs in page.tags)


def test_the_page_names_no_other_address_and_no_id_twice(html):
    page = Page(html)
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src", "xlink:href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.findall(r"url\((?!#)", html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_what_the_study_can_show_is_said_of_a_typical_cell(study, html):
    (one,) = typical(study.transfer[0])
    section = html.split('<h2 id="reach">')[1].split("</section>")[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", section)
    needed = ["no number" if seeds is None else str(seeds) for seeds in one.needed.values()]
    shown = "none" if one.detectable > 100 else f"{one.detectable:.1f}"
    assert cells[1:] == [str(one.seeds), str(one.examples), shown, *needed, f"{one.limit:.1f}"]
    assert "seeds for 1 point<" in section
    assert "seeds for 5 points<" in section


def test_a_small_study_makes_a_small_page(html):
    assert len(html.encode()) < 1_000_000


def test_failed_degenerate_and_missing_runs_are_named_with_their_reason(study):
    assert [(one["word"], one["why"]) for one in troubles(study)] == [
        ("degenerate", "constant prediction"), ("failed", ERROR), ("missing", "no reason is recorded"),
    ]  # fmt: skip


def test_limits_say_what_was_cut_and_what_selected(study):
    said = " ".join(limits(study))
    assert "held out" in said
    assert "rte 500 of 2,490" in said
    assert "rte 3.1%" in said
    assert "400 of 400" not in said
    other = replace(study, study=study.study | {"selection": "validation"})
    assert "a little too high" in " ".join(limits(other))
    last = replace(study, runs=[replace(run, n_selection=0) for run in study.runs])
    assert "held out" not in " ".join(limits(last))
    assert "No epoch was chosen" in " ".join(limits(last))


def test_a_page_without_runs_tasks_or_transfer_still_says_so(study):
    bare = ReportInputs(study={"name": "bare"}, observations=study.observations.iloc[:0])
    text = Page(build(bare)).text
    for said in ("nothing to compare yet", "There are no scores yet", "not recorded here", "All runs finished"):
        assert said in text


def test_a_cell_without_runs_is_shown_as_missing(study):
    rows = [row("direct", "", "rte", 1, 60, status="ok"), row("stilts", "mnli", "rte", 1, None, status="missing")]
    found = transfer(rows)
    page = Page(build(ReportInputs(study={}, observations=check(rows), transfer=[found])))
    labels = [attrs["aria-label"] for _, attrs in page.tags if attrs.get("aria-label", "").startswith("mnli → rte")]
    assert labels == ["mnli → rte: no value; missing; 0 seeds"]
    assert "Nothing is known yet of mnli → rte: the cell is missing." in page.text


def test_tables_as_csv_and_latex(study, tmp_path):
    names = {path.name for path in write_tables(study, tmp_path)}
    assert names == {
        "cells.csv", "contrasts.csv", "observations.csv", "matrix-minilm-stilts.csv", "matrix-minilm-stilts.tex",
        "matrix-minilm-stilts-without-degenerate.csv", "matrix-minilm-stilts-without-degenerate.tex",
        "matrix-minilm-stilts.md", "matrix-minilm-stilts-without-degenerate.md",
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == names
    tex = (tmp_path / "matrix-minilm-stilts.tex").read_text()
    assert r"ré\&te\_\{100\%\} \textless{}/script\textgreater{}" in tex
    delta = words.points(study.transfer[0].matrix().cells["mnli", "rte"].delta)
    assert rf"$\mathbf{{{delta}}}$" in tex
    assert tex.count(r"\\") == 1 + len(TARGETS) + 1
    text = (tmp_path / "matrix-minilm-stilts.md").read_text()
    assert rf"| **{delta}** |" in text
    assert r"ré\&te\_{100%} \</script\>\<b\>'" in text
    assert [line.count("|") for line in text.splitlines()[:6]] == [len(SOURCES) + 3] * 6
    lines = (tmp_path / "matrix-minilm-stilts.csv").read_text().splitlines()
    assert len(lines) == 1 + len(TARGETS) + 1
    matrix = study.transfer[0].matrix()
    means = [f"{matrix.averages['target', source].delta:.6g}" for source in matrix.sources]
    assert lines[-1].split(",")[-len(means) :] == means
    collapsed = [cell for cell in matrix.cells.values() if cell.degenerate]
    assert len(collapsed) == tex.count(r"$^\dagger$") == 1


def test_figures_as_svg_png_and_pdf(study, tmp_path):
    paths = write_figures(replace(study, transfer=study.transfer[:1]), tmp_path)
    assert {path.name for path in paths} == {
        f"{stem}.{ending}"
        for stem in (
            "heatmap-minilm-stilts",
            "intervals-minilm-stilts",
            "curves-selection",
            "curves-loss",
            "ranks-1-stilts-target",
        )
        for ending in ("svg", "png", "pdf")
    }
    starts = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert all(path.read_bytes().startswith(starts[path.suffix[1:]]) for path in paths)


def test_a_dot_marks_the_step_whose_weights_were_kept(study):
    chart = figures.curves(study.runs, "selection")
    assert chart is not None
    marked = [point for point in _values(chart.to_dict()) if point.get("chosen")]
    finished = {run.key for run in study.runs if run.curve}
    assert {(point["key"], point["step"]) for point in marked} == {(key, 240) for key in finished}


def test_the_largest_difference_has_the_fullest_colour(study):
    cells = study.transfer[0].matrix().cells
    largest = max((cell.delta for cell in cells.values() if cell.delta is not None), key=abs)
    fills = {value["text"]: value["fill"] for value in _values(figures.heatmap(study.transfer[0].matrix()).to_dict())}
    assert fills[words.points(largest)] == shade(largest, abs(largest)) in ("#2166ac", "#b2182b")
    assert list(fills.values()).count(fills[words.points(largest)]) == 1


def _values(spec):
    """Every row of data in a chart's specification."""
    if isinstance(spec, dict):
        for name, item in spec.items():
            yield from item if name == "values" else _values(item)
    elif isinstance(spec, list):
        for item in spec:
            yield from _values(item)


def test_the_answer_begins_with_the_largest_gain():
    rows = [row("direct", "", target, seed, 50) for target in ("cb", "rte") for seed in range(5)]
    rows += [row("stilts", "mnli", t, seed, 50 + up) for t, up in (("cb", 8), ("rte", 20)) for seed in range(5)]
    (answer,) = answers([transfer(rows)])
    pays = dict(answer.details)["Pays"]
    assert 0 == pays.index("mnli → rte +20.0") < pays.index("mnli → cb +8.0")


def test_numbers_are_printed_as_readers_expect():
    assert [words.points(v) for v in (3.14, -0.44, -0.04, 0.0, None)] == ["+3.1", "−0.4", "0.0", "0.0", "–"]
    assert [words.p_value(v) for v in (0.0004, 0.0314, 1.0, None)] == ["< 0.001", "0.031", "1.000", "–"]
    assert [seconds(v) for v in (12, 200, 9000, 864_000, None)] == ["12 s", "3 min", "2.5 h", "10.0 days", "–"]
    assert plain({"a": {"b": [1, 2]}, "c": True}) == "a b 1, 2; c yes"
