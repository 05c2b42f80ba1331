"""The report of an evaluation: what programs read of it, and a page that needs nothing else and hides nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from huracan_training.evaluation import Evaluation, evaluate
from huracan_training.regression import errors_scored
from huracan_training.report import html_page, plain, summary, table, write_report

from .simulated_study import Market

ASSET = "btc-usdt-perp"


class _Page(HTMLParser):
    """The texts, ids and outside addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href") and not (value or "").startswith("#"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the report of the small study was written: a directory that was not there."""
    return write_report(evaluation, tmp_path_factory.mktemp("report") / "new" / "run").parent


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    """Return the page of the small study."""
    return (written / "report.html").read_text(encoding="utf-8")


def test_programs_find_scores_baselines_intervals_and_the_verdict(evaluation: Evaluation, written: Path) -> None:
    told = json.loads((written / "report.json").read_text(encoding="utf-8"))
    own = evaluation.judged
    assert (told["model"], told["data_digest"]) == ("patch_net", evaluation.study.data_digest)
    assert told["promoted"] == evaluation.verdict.promoted
    for name in ("log_loss", "macro_f1", "balanced_accuracy", "brier", "ece"):
        assert told["scores"][name] == pytest.approx(getattr(own.scores, name))
    assert {"persistence", "hmm", "random_forest"} <= set(told["baselines"])
    assert told["baselines"]["hmm"]["log_loss"] > told["scores"]["log_loss"]
    assert told["intervals"]["log_loss"]["low"] < told["scores"]["log_loss"] < told["intervals"]["log_loss"]["high"]
    assert told["intervals"]["transition_recall"]["value"] == pytest.approx(told["transitions"]["patch_net"]["recall"])
    assert len(told["comparisons"]) == 5 * 4
    assert told["study"]["trials"] == 60
    assert told["trading"]["patch_net"]["monte_carlo"]["resampled"]["replicates"] == 100
    assert set(told["details"]["patch_net"]["by_asset"]) == set(own.by_asset)


def test_what_is_no_number_is_null() -> None:
    told = plain({"a": float("nan"), "b": (np.float64(1.5), np.array([np.inf, 2.0])), "c": True, 4: None})
    assert told == {"a": None, "b": [1.5, [None, 2.0]], "c": True, "4": None}


def test_the_page_needs_nothing_else_and_its_pictures_have_their_own_ids(page: str) -> None:
    read = _Page(page)
    assert read.links == []
    assert "<script" not in page
    assert len(read.ids) == len(set(read.ids))
    assert page.count("<svg") == 8


def test_every_picture_is_well_formed(page: str) -> None:
    for part in page.split("<svg")[1:]:
        picture = part.split("</svg>")[0].replace("xlink:href", "href")
        ET.fromstring(f"<svg{picture}</svg>")


def test_the_page_says_what_a_sceptic_asks_for(evaluation: Evaluation, page: str) -> None:
    text = _Page(page).text
    study, own = evaluation.study, evaluation.judged
    for asked in (
        f"{own.scores.rows:,}",
        f"DSR counts {study.trials:,} trials",
        "5 bp fee and 1 bp slippage",
        "Passed when the 5th percentile",
        "Thresholds were chosen before the test",
        "the axis does not start at 0",
        study.notes[0],
        study.data_digest,
        study.machine,
        *(source.asset for source in study.sources),
        *(claim.text for claim in evaluation.claims),
    ):
        assert asked in text
    assert "nan" not in text.lower().replace("finance", "")


def test_a_model_in_quarantine_is_called_that_on_top(market: Market) -> None:
    study = replace(market.study, model="majority", replicates=20, notes=("<b>one</b> & another",), machine="")
    forecasts = [each for each in market.forecasts if each.model in ("majority", "hmm") and each.asset == ASSET]
    told = evaluate(study, forecasts, market.series, errors={
        "next return, %": {"majority": errors_scored(np.array([1.0, -1.0]), np.zeros(2), 0.0)}
    })  # fmt: skip
    page = html_page(told)
    assert "In quarantine: cannot be promoted" in page
    assert "Was not compared with random forest" in page
    assert "&lt;b&gt;one&lt;/b&gt; &amp; another" in page
    assert "Numbers implied" in page
    assert summary(told)["errors"]["next return, %"]["majority"]["rmse"] == 1  # type: ignore[index]
    assert "not told" in page


def test_a_study_without_positions_and_rivals_is_told_without_them(market: Market) -> None:
    study = replace(market.study, classes=("a", "b", "c", "d"), replicates=20)
    forecasts = [each for each in market.forecasts if each.model == "patch_net" and each.asset == ASSET]
    told = evaluate(study, forecasts, market.series)
    page = html_page(told)
    assert "Nothing to compare with." in page
    assert "The classes say nothing that a position can be taken from." in page
    assert "Monte Carlo" not in page
    assert summary(told)["trading"] == {}


def test_a_cell_has_a_second_line_and_a_mood() -> None:
    told = table(["a", "b"], [["1\n[0, 2]", ("<2>", "good")]], words_in=(1,))
    assert "<small>[0, 2]</small>" in told
    assert "<td class='words good'>&lt;2&gt;</td>" in told
