"""The report: every number as the files have it, nothing from a network, readable by machines and in a browser."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metaser.config.study import Study
from metaser.reporting.page import page
from metaser.reporting.page.compare import SIGNS, verdict
from metaser.reporting.results import CONFUSION, SUMMARY
from metaser.training import methods
from support import REPOSITORY
from support.commands import assert_refused, metaser
from support.limit import LIMIT

EXPERIMENTS = REPOSITORY / "experiments"
DOMAINS = {"en": "English (EMOFILM)", "it": "Italian (EMOFILM)"}
EVIL = '"><script>alert(1)</script>&amp;'


class Table(NamedTuple):
    """A table of the page: its section and caption, the heads of its columns, and per row its head and cells (class, text)."""

    section: str
    caption: str
    columns: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


class Read(HTMLParser):
    """A page as a list of tags, its text and its tables."""

    VOID = ("meta", "link", "img", "br", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: list[Table] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self._section = ""
        self._cell: tuple[str, list[str]] = "", []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.tags.append((tag, named))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = named["id"]
        if tag == "table":
            self.tables.append(Table(self._section, "", [], []))
        if tag in ("td", "th", "caption"):
            self._cell, self._scope = (named.get("class", ""), []), named.get("scope")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed where another is open"
        text = " ".join("".join(self._cell[1]).split())
        if tag == "caption":
            self.tables[-1] = self.tables[-1]._replace(caption=text)
        elif tag == "th" and self._scope == "col":
            self.tables[-1].columns.append(text)
        elif tag == "th":
            self.tables[-1].rows.append((text, []))
        elif tag == "td":
            self.tables[-1].rows[-1][1].append((self._cell[0], text))

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        self._cell[1].append(data)

    def table(self, section: str, caption: str) -> dict[str, list[str]]:
        """The cells of the table of a section whose caption has these words, by the heads of its rows."""
        (found,) = [one for one in self.tables if one.section == section and caption in one.caption]
        rows = {name: [text for _, text in cells] for name, cells in found.rows}
        assert len(rows) == len(found.rows), "no two rows have one head"
        return rows

    def compared(self, section: str) -> list[tuple[str, ...]]:
        """The paper's values and ours: metric and method, target, protocol, published, ours, the class of its cell."""
        (found,) = [
            one for one in self.tables if one.section == section and "The paper's values and ours" in one.caption
        ]
        return [(name, *(text for _, text in cells[:4]), cells[3][0]) for name, cells in found.rows]


Committed = tuple[Path, str, Read]


def tracked(folder: Path) -> Path:
    """The committed results, without what lies about beside them."""
    listed = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z", "results"],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if listed.returncode:
        return REPOSITORY / "results"
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(REPOSITORY / name)
    return folder / "results"


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Committed:
    """The committed results, and the page that is made of them now."""
    results = tracked(tmp_path_factory.mktemp("committed"))
    text = page(results, EXPERIMENTS)
    return results, text, Read(text)


def run(
    results: Path, rows: list[dict[str, object]], kind: str = "real", place: str = "fmaml/5shot", **changes: object
) -> Path:
    """A small finished run of ``experiments/fmaml``; rows are of its summary, over protocol strict's usual keys."""
    folder = results / place / kind
    folder.mkdir(parents=True)
    keys = dict.fromkeys(SUMMARY, "") | {
        "experiment": "fmaml", "variant": "5shot", "algorithm": "fmaml", "protocol": "strict", "data": kind, "source": "it",
        "target": "en", "shots": 5, "metric": "accuracy", "mean": 0.5, "ci95": 0.01, "n_tasks": 100, "n_seeds": 3, "paper": None,
    }  # fmt: skip
    pd.DataFrame([keys | row for row in rows]).to_csv(folder / "summary.csv", index=False)
    settings = Study(EXPERIMENTS / "fmaml" / "config.yaml", methods).experiment(variant="5shot", protocol="strict")
    facts = {"settings": {"strict": settings.model_dump(mode="json")}, "overrides": ["seeds=[0]"], "commit": "c0ffee",
             "data": {"kind": kind, "collection": "emofilm", "domains": DOMAINS, "clips": {"en": 7}}} | changes  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "table.md").write_text(f"# A run on {kind} data\n\n| a | b |\n| --- | ---: |\n| c | 1 |\n")
    return folder


def made(results: Path) -> Read:
    return Read(page(results, EXPERIMENTS))


def test_nothing_is_fetched_and_nothing_is_run(committed: Committed) -> None:
    read = committed[2]
    assert read.tags[0] == ("html", {"lang": "en"})
    for tag, attributes in read.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form", "video", "audio", "source", "svg")
        assert not any(name.startswith("on") for name in attributes), attributes
        for name in ("src", "href", "srcset", "data", "poster", "background", "action", "ping"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes[name]
        assert "url(" not in attributes.get("style", "")
    style = committed[1].partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|@font-face", style)
    policy = next(attributes["content"] for _, attributes in read.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'"), "the browser refuses what slipped through"
    assert len(committed[1]) < 6_000_000


def test_it_can_be_read_by_a_screen_reader_on_a_phone_and_in_print(committed: Committed) -> None:
    read = committed[2]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.tags
    assert "@media print" in committed[1]
    for tag, attributes in read.tags:
        assert tag != "th" or attributes.get("scope") in ("col", "row")
        assert tag != "img" or attributes["alt"]
    tables = [n for n, (tag, _) in enumerate(read.tags) if tag == "table"]
    assert all(read.tags[n - 1][1].get("class") == "scroll" for n in tables), "a wide table scrolls in a box of its own"
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for tag, attributes in read.tags if tag == "a"}
    assert links <= {*ids, ""}


def luminance(colour: str) -> float:
    """WCAG's relative luminance of ``#rrggbb`` or ``#rgb``."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    channels = np.array([int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_stands_out_from_every_colour(committed: Committed) -> None:
    rules = re.findall(
        r"\.(covers|above|below|no-interval|h\d+) \{ background: (#\w+);(?: color: (#\w+);)?", committed[1]
    )
    assert len(rules) == 15
    for name, behind, ink in rules:
        low, high = sorted(map(luminance, (behind, ink or "#1a1a1a")))
        assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_every_committed_run_is_there_with_its_command(committed: Committed) -> None:
    results, text, read = committed
    sections = [attributes["id"] for tag, attributes in read.tags if tag == "section"]
    folders = {path.parent.relative_to(results).as_posix() for path in results.rglob("run.json")}
    assert set(sections) == folders
    assert (
        sections.index("fmaml/5shot/real")
        < sections.index("fmaml/10shot/real")
        < sections.index("fmaml-best/5shot/fmaml/best/real")
    )
    said = " ".join(read.text)
    assert "metaser run experiments/fmaml --variant 5shot\n" in text.replace("</code>", "\n")
    assert (
        "metaser run experiments/fmaml --variant best --results results/fmaml-best/10shot --set tasks.shots=10" in said
    )
    assert "F-MAML" in said
    for path in results.rglob("run.json"):
        assert json.loads(path.read_text())["commit"] in said
    assert str(results.parent) not in text


TITLES = {"loss": "query loss, nats", "macro_f1": "macro-F1, %", "weighted_f1": "weighted F1, %", "uar": "UAR, %"}


def test_every_number_is_a_files(committed: Committed) -> None:
    """Row by row against an own reading of summary.csv, and none is left out."""
    results, _, read = committed
    for path in results.rglob("summary.csv"):
        run_json = json.loads((path.parent / "run.json").read_text())
        for protocol, rows in (
            pd.read_csv(path, keep_default_na=False).groupby("protocol") if "settings" in run_json else ()
        ):
            tasks = run_json["settings"][protocol]["tasks"]
            classes = {"accuracy": f"accuracy, {tasks['ways'] + len(tasks['fixed'])} classes, %",
                       "accuracy_emotions": f"accuracy, {tasks['ways']} emotions only, %"}  # fmt: skip
            caption = f"All numbers, protocol {protocol}" if protocol else "All numbers"
            table = read.table(path.parent.relative_to(results).as_posix(), caption)
            for metric, here in rows.groupby("metric"):
                if metric == "accuracy_emotions" and not tasks["fixed"]:
                    continue  # it is the accuracy where there is no other class
                title = (TITLES | classes).get(metric, f"{metric.replace('recall_', 'recall of ')}, %")
                unit, digits = (1, 3) if metric == "loss" else (100, 1)
                wanted = [f"{unit * float(row['mean']):.{digits}f} ± {unit * float(row['ci95']):.{digits}f}"
                          for row in here.to_dict("records")]  # fmt: skip
                cells = [cell for name in list(table) if name.startswith(f"{title}: ") for cell in table.pop(name)]
                assert sorted(cell for cell in cells if cell != "–") == sorted(wanted)
            assert not table


def test_every_row_of_every_table_md_is_there(committed: Committed) -> None:
    results, _, read = committed
    for path in results.rglob("table.md"):
        section = path.parent.relative_to(results).as_posix()
        lines = re.findall(r"^\| (.*) \|$", re.sub(r"[*`]", "", path.read_text()), re.MULTILINE)
        written = [[cell.strip() for cell in line.split(" | ")] for line in lines if "---" not in line]
        shown = [row for one in read.tables if one.section == section
                 for row in (one.columns, *([name, *(text for _, text in cells)] for name, cells in one.rows))]  # fmt: skip
        assert len(written) > 3
        assert all(row in shown for row in written)


def test_a_colour_never_stands_alone_and_titles_tell_runs_apart(committed: Committed) -> None:
    read = committed[2]
    marked = [f"{sign} {word}" for word, sign in SIGNS.items()]
    for style, text in (cell for one in read.tables if one.section for _, cells in one.rows for cell in cells):
        coloured = style not in ("", "text") and not re.fullmatch(r"h\d+", style)
        assert coloured == any(mark in text for mark in marked)
    titles = re.findall(r"<h3[^>]*>(.*?)</h3>", committed[1])
    assert len(titles) == len(set(titles)) == committed[1].count("<section")
    listed = [name for one in read.tables if not one.section for name, _ in one.rows]
    assert sorted(map(html.escape, listed)) == sorted(titles), "each stands in the list at the top"


def test_every_published_value_is_there(committed: Committed) -> None:
    results, _, read = committed
    for path in EXPERIMENTS.glob("*/paper.csv"):
        for variant, rows in pd.read_csv(path).groupby("variant"):
            section = f"{path.parent.name}/{variant}/real"
            if (results / section).is_dir():
                said = [published.split(" (")[0] for _, _, _, published, *_ in read.compared(section)]
                for metric, value in zip(rows["metric"], rows["value"], strict=True):
                    share = metric not in ("loss", "seconds_per_100_epochs", "seconds_to_train")
                    assert (f"{100 * value:.2f}" if share else f"{value:.10g}") in said


def test_the_committed_page_is_that_of_the_committed_results(committed: Committed) -> None:
    """But for the bits of the plots' compression, which may differ from one zlib to another."""

    def parts(text: str) -> tuple[str, list[bytes]]:
        found = re.findall(r'"data:image/webp;base64,([^"]*)"', text)
        return re.sub(r'"data:image/webp;base64,[^"]*"', "", text), [base64.b64decode(one) for one in found]

    (old, before), (new, now) = (
        parts(text) for text in ((REPOSITORY / "results" / "report.html").read_text(), committed[1])
    )
    if old != new:  # in two steps, for a difference of megabytes takes pytest minutes to show
        lines = [(one, other) for one, other in zip(old.splitlines(), new.splitlines(), strict=False) if one != other]
        pytest.fail(
            f"`make report` makes another page; the first difference: {[part[:200] for part in (lines or [''])[0]]}"
        )
    for one, other in zip(before, now, strict=True):
        if one != other:
            shown = [np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), dtype=float) for raw in (one, other)]
            assert np.abs(shown[0] - shown[1]).mean() < 1


@pytest.mark.parametrize(
    ("mean", "ci95", "paper", "word"),
    [
        (0.5, 0.1, 0.6, "covers"),
        (0.3, 0.1, 0.4, "covers"),
        (0.5, 0.1, 0.4, "covers"),
        (0.5, 0.0, 0.5, "covers"),
        (0.5, 0.1, 0.600002, "below"),
        (0.5, 0.1, 0.399998, "above"),
        (0.5, float("nan"), 0.5, "no interval"),
    ],
)
def test_an_interval_covers_a_value_or_lies_above_or_below_it(
    mean: float, ci95: float, paper: float, word: str
) -> None:
    assert verdict(mean, ci95, paper) == word


MILLIONTHS = st.integers(0, 10**6)


@pytest.mark.quick
@given(MILLIONTHS, MILLIONTHS, MILLIONTHS)
def test_the_verdict_is_that_of_exact_arithmetic(mean: int, ci95: int, paper: int) -> None:
    word = "covers" if mean - ci95 <= paper <= mean + ci95 else "above" if mean > paper else "below"
    assert verdict(mean / 1e6, ci95 / 1e6, paper / 1e6) == word


@pytest.mark.quick
def test_a_published_value_is_compared_with_its_own_cell_first_then_with_another_corpus(tmp_path: Path) -> None:
    run(tmp_path, [{"mean": 0.69, "ci95": 0.02, "paper": 0.6971}, {"target": "it"}, {"algorithm": "fomaml", "mean": 0.9},
                   {"algorithm": "best"}, {"metric": "uar"}, {"algorithm": "supervised", "ci95": None}])  # fmt: skip
    read = made(tmp_path)
    found = {
        (name.removeprefix("accuracy, 7 classes, %: "), on): rest
        for name, on, *rest in read.compared("fmaml/5shot/real")
    }
    assert found["F-MAML", DOMAINS["en"]] == ["strict", "69.71", "69.0 ± 2.0 ≈ covers", "covers"]
    assert found["F-MAML", DOMAINS["it"]] == [
        "strict",
        "69.13 (emofilm)",
        "50.0 ± 1.0 ▼ below (other corpus)",
        "below other",
    ]
    assert found["F-MAML", "es"] == ["", "68.85 (emofilm)", "–", ""], "what was published for none of ours"
    assert found["FOMAML, all classes alike", DOMAINS["en"]][2] == "90.0 ± 1.0 ▲ above (other corpus)"
    assert found["supervised, support only", DOMAINS["en"]][2:] == [
        "50.0 ? no interval (other corpus)",
        "no-interval other",
    ]
    assert len(found) == 9, "none of other methods and metrics"
    assert read.table("fmaml/5shot/real", "All numbers")["UAR, %: F-MAML"] == ["50.0 ± 1.0", "–"]
    said = " ".join(" ".join(read.text).split())
    assert said.count("strict: ≈ 1 covers, ▲ 0 above, ▼ 0 below; strict: ≈ 0 covers, ▲ 1 above, ▼ 1 below, ? 1 no interval "
                      "(other corpus)") == 2, "at the run, and in the list at the top"  # fmt: skip
    assert "arXiv 2101.01356, Table 2" in said


@pytest.mark.quick
def test_synthetic_data_are_marked_kept_apart_and_compared_with_nothing(tmp_path: Path) -> None:
    run(tmp_path, [{}])
    run(tmp_path, [{}], kind="synthetic")
    run(tmp_path, [{}], kind="bundled")
    read = made(tmp_path)
    assert "below other" in {style for *_, style in read.compared("fmaml/5shot/real")}
    for kind in ("synthetic", "bundled"):
        assert read.table(f"fmaml/5shot/{kind}", "All numbers") == {"accuracy, 7 classes, %: F-MAML": ["50.0 ± 1.0"]}
        assert not any(
            "The paper's values" in one.caption for one in read.tables if one.section == f"fmaml/5shot/{kind}"
        )
    said = "".join(read.text)
    assert [one.caption for one in read.tables if one.section == "fmaml/5shot/synthetic"] == [
        "a · SYNTHETIC data", "metric: method · All numbers, protocol strict · SYNTHETIC data"
    ]  # fmt: skip
    assert "SYNTHETIC data: these numbers say nothing about the paper's." in said
    assert "STAND-IN data, not the paper's: these numbers say nothing" in said
    assert "METASER_DATA= metaser run experiments/fmaml" in said
    assert [one.caption for one in read.tables if not one.section] == [
        "Real data (1)",
        "SYNTHETIC and stand-in data (2)",
    ]


@pytest.mark.quick
def test_what_files_say_is_text_never_markup(tmp_path: Path) -> None:
    folder = run(tmp_path, [{"algorithm": EVIL, "metric": EVIL}], place=f"a<b>'&\"/{'x' * 5}", commit=EVIL,
                 overrides=[EVIL], versions={EVIL: EVIL}, hardware={"cores": EVIL},
                 data={"kind": "real", "collection": EVIL, "domains": {"en": EVIL}, "clips": {EVIL: 1},
                       "absent": [EVIL]})  # fmt: skip
    (folder / "table.md").write_text(
        f"# {EVIL}\n\n<script>x</script> {EVIL} [a](http://a.b) ![b](http://a.b/c.png) <http://a.b>\n\n"
        f"[r]: http://a.b\n\n[r]\n\n## {EVIL}\n\n| {EVIL} |\n| --- |\n| <img src=http://a.b> |\n"
    )
    Image.new("RGB", (4, 4), "white").save(folder / '"><script>.png')
    read = made(tmp_path)
    assert "script" not in {tag for tag, _ in read.tags}
    assert {attributes.get("src", "data:")[:5] for _, attributes in read.tags} == {"data:"}
    assert {attributes["href"][0] for tag, attributes in read.tags if tag == "a"} == {"#"}
    assert "".join(read.text).count(EVIL) > 10


def test_confusions_times_and_plots_are_in_the_page(tmp_path: Path) -> None:
    folder = run(tmp_path, [{}])
    classes = ["fear", "anger", "neutral", "silence"]
    keys = {"experiment": "fmaml", "variant": "5shot", "algorithm": "fmaml", "protocol": "strict", "data": "real", "source": "it",
            "target": "en", "shots": 5, "seed": 0}  # fmt: skip
    counts = [
        keys | {"true": one, "predicted": other, "count": 7 if one == other else 1}
        for one in classes
        for other in classes
    ]
    pd.DataFrame(counts)[list(CONFUSION)].to_csv(folder / "confusion.csv", index=False)
    times = (
        dict.fromkeys(SUMMARY) | keys | {"metric": "seconds_to_train", "mean": 12.3456, "ci95": 0.5, "paper": 23617.31}
    )
    pd.DataFrame([times])[list(SUMMARY)].to_csv(folder / "timing.csv", index=False)
    Image.new("RGBA", (30, 20), (0, 114, 178, 255)).save(folder / "accuracy.png")
    Image.new("RGB", (30, 20)).save(folder / "confusion.png")
    read = made(tmp_path)
    assert [attributes["alt"] for tag, attributes in read.tags if tag == "img"] == [
        "Plot “accuracy”: fmaml 5shot: A run on real data"
    ]
    picture = next(attributes["src"] for tag, attributes in read.tags if tag == "img")
    image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("RGB")
    assert image.size == (30, 20)
    assert np.abs(np.subtract(image.getpixel((3, 3)), (0, 114, 178))).max() <= 7, "nearly the same colour"
    assert read.table("fmaml/5shot/real", "Times") == {"seconds of training: F-MAML": ["12.346 ± 0.500"]}
    (time,) = [row for row in read.compared("fmaml/5shot/real") if row[0] == "seconds of training: F-MAML"]
    assert time[3:] == ("23617.31", "12.346 ± 0.500", ""), "another machine's time is set beside ours, and not judged"
    cells = [
        attributes["class"]
        for tag, attributes in read.tags
        if tag == "td" and attributes.get("class", "").startswith("h")
    ]
    assert sorted(cells) == ["h1"] * 12 + ["h7"] * 4
    assert read.table("fmaml/5shot/real", "true \\ predicted, % · strict · English (EMOFILM) · real data")["F-MAML: fear"] == [
        "10", "70", "10", "10"
    ]  # fmt: skip


def test_sets_of_sources_have_rows_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, [{"source": "it", "mean": 0.1}, {"source": "it+es", "mean": 0.2}])
    assert made(tmp_path).table("fmaml/5shot/real", "All numbers") == {
        "accuracy, 7 classes, %: F-MAML, from it": ["10.0 ± 1.0"], "accuracy, 7 classes, %: F-MAML, from it + es": ["20.0 ± 1.0"]
    }  # fmt: skip


def test_pictures_have_no_emotions_and_an_experiment_may_be_gone(tmp_path: Path) -> None:
    settings = Study(EXPERIMENTS / "omniglot" / "config.yaml", methods).experiment(variant="fc")
    facts = {"settings": {"": settings.model_dump(mode="json")},
             "data": {"kind": "real", "collection": "Omniglot", "domains": DOMAINS}}  # fmt: skip
    folder = run(tmp_path, [{"protocol": "", "experiment": "omniglot", "variant": "fc", "algorithm": "fomaml", "paper": 0.9699}],
                 place="omniglot/fc", **facts)  # fmt: skip
    beside = (DOMAINS["en"], "", "96.99", "50.0 ± 1.0 ▼ below", "below")
    assert ("accuracy, 5 classes, %: FOMAML", *beside) in made(tmp_path).compared("omniglot/fc/real")
    away = Read(page(tmp_path, tmp_path / "nothing"))
    assert away.compared("omniglot/fc/real") == [("accuracy, 5 classes, %: FOMAML", *beside)]
    assert not (folder / "confusion.csv").exists()


def test_stopped_runs_are_left_out_and_equal_files_give_equal_pages(tmp_path: Path) -> None:
    for place in ("one", "two"):
        folder = run(tmp_path / place / "results", [{}])
        shutil.copytree(folder, folder.with_name("real.partial"))
    first, second = (page(tmp_path / place / "results", EXPERIMENTS) for place in ("one", "two"))
    assert first == second
    assert "partial" not in first
    assert str(tmp_path) not in first


def test_the_command_writes_the_page_or_says_in_one_line_why_not(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "out" / "page.html"
    assert_refused(metaser("report", "--results", results), "results: there is no such folder", "--results")
    results.mkdir()
    assert_refused(metaser("report", "--results", results), "holds no run", "metaser run")
    assert_refused(metaser("report", "--results", Path(__file__)), "is a file")
    folder = run(results, [{}])
    done = metaser("report", "--results", results, "--out", out, "--experiments", EXPERIMENTS)
    assert (done.returncode, done.stdout) == (0, f"written to {out}\n")
    before = out.read_bytes()
    wrong = {"summary.csv": "experiment\nfmaml\n", "run.json": "{}", "table.md": None, "timing.csv": "a,b\n1,2,3\n",
             "accuracy.png": "no picture", "confusion.csv": "a\n1\n"}  # fmt: skip
    for name, content in wrong.items():
        kept = (folder / name).read_text() if (folder / name).exists() else None
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        assert_refused(metaser("report", "--results", results, "--out", out), str(folder / name))
        assert out.read_bytes() == before
        (folder / name).unlink(missing_ok=True) if kept is None else (folder / name).write_text(kept)
    (folder / "summary.csv").write_text((folder / "summary.csv").read_text().replace(",real,", ",synthetic,"))
    assert_refused(
        metaser("report", "--results", results, "--out", out),
        "summary.csv, row 2: data 'synthetic' is none of run.json's",
    )
    assert sorted(path.name for path in out.parent.iterdir()) == ["page.html"]


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")


def test_a_browser_shows_it_on_a_phone(committed: Committed, tmp_path: Path) -> None:
    """Headless Chromium at 360 × 800: something is drawn, and nothing sticks out to the right."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    (tmp_path / "page.html").write_text(committed[1])
    script = "<script>onload = () => { const page = document.getElementById('f').contentDocument.documentElement; " \
             "document.title = page.scrollWidth + ' ' + page.querySelectorAll('section').length }</script>"  # fmt: skip
    frame = "<iframe id=f src=page.html style='width:360px;height:800px;border:0'></iframe>"
    (tmp_path / "frame.html").write_text(f"<!doctype html><title></title>{script}{frame}")

    def browse(name: str, *options: str) -> str:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=360,800",
                   "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", *options,
                   (tmp_path / name).as_uri()]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, cwd=tmp_path).stdout

    browse("page.html", f"--screenshot={tmp_path / 'shot.png'}")
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("L"))
    assert shot.shape[1] >= 360
    assert (shot < 128).mean() > 0.01, "the page is blank"
    width, sections = re.findall(r"<title>(\d+) (\d+)</title>", browse("frame.html", "--dump-dom"))[0]
    assert int(width) <= 360, "wider than the window"
    assert int(sections) == committed[1].count("<section")
