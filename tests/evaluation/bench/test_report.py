"""Tests of ``nibt.evaluation.bench.report``."""

import json
import math
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nibt
from nibt.cli import main
from nibt.errors import BadOption
from nibt.evaluation.bench.cell import COLUMNS, encode_rows, read_rows
from nibt.evaluation.bench.headline import headlines
from nibt.evaluation.bench.plan import Plan, plans
from nibt.evaluation.bench.report import _tables, per_second
from nibt.evaluation.bench.summary import Summary
from tests.evaluation.bench.plans import BASE
from tests.helpers import check_page
from tests.suites import few


def make_summary(
    folder: Path,
    plan: Plan,
    numbers: dict[tuple[str, str, str], list[float]],
    seconds: dict[str, float],
    views: dict[str, int] | None = None,
    base: str | None = None,
) -> Summary:
    """Return a summary of known values, by side, metric and method, whose methods have known views."""
    blank = dict.fromkeys(COLUMNS, "") | {"curve": [], "target": "cosine", "seed": 0}
    blank |= {"model": plan.models[0].label, "data": plan.data[0].label}
    rows = [
        {
            **blank,
            "side": side,
            "metric_label": metric,
            "method_label": method,
            "item": item,
            "value": value,
            "seconds": seconds[method],
            "resolved": json.dumps({"views": views[method]}) if views else "",
        }
        for (side, metric, method), values in numbers.items()
        for item, value in enumerate(values)
    ]
    data = encode_rows(rows)
    path = folder / f"rows-{sha256(data).hexdigest()[:16]}.parquet"
    path.write_bytes(data)
    return Summary.of(plan, read_rows([path]).to_pandas(), base)


@pytest.mark.parametrize("metrics", [["sparseness"], ["sparseness", "pointing_game"]])
@pytest.mark.parametrize("methods", few([["nib"], ["nib", "rise"]], [["nib"]]))
def test_no_table_of_a_report_is_empty(tmp_path: Path, metrics: list[str], methods: list[str]) -> None:
    """No direction of ``sparseness`` is better, so it has no win rates."""
    plan = Plan.read({**BASE, "methods": methods, "metrics": metrics, "sides": ["image"]})
    numbers = {("image", metric, method): [0.5, 1.0] for metric in metrics for method in methods}
    tables = list(_tables(make_summary(tmp_path, plan, numbers, dict.fromkeys(methods, 1.0))))
    assert all(table.rows and len(table.headings) > 1 for table in tables), tables
    rates = [table for table in tables if "win rate" in table.title]
    assert [table.headings for table in rates] == [["method", "pointing_game"]] * (
        "rise" in methods and len(metrics) > 1
    )


def test_report_numbers_equal_those_by_hand(tmp_path: Path) -> None:
    plan = Plan.read(
        {
            **BASE,
            "methods": ["nib", "m2ib", "rise"],
            "metrics": ["confidence_drop", "confidence_increase"],
            "sides": ["image"],
        }
    )
    drops = {"nib": [1.0, 2.0, 3.0, 0.0], "m2ib": [2.0, 4.0, 3.0, 3.0], "rise": [1.0, 2.0, 3.0, np.nan]}
    increases = {"nib": [100.0, 100.0, 0.0, 0.0], "m2ib": [0.0, 100.0, 0.0, 0.0], "rise": [0.0, 0.0, 0.0, 0.0]}
    numbers = {("image", "confidence_drop", name): values for name, values in drops.items()}
    numbers |= {("image", "confidence_increase", name): values for name, values in increases.items()}
    summary = make_summary(tmp_path, plan, numbers, {"nib": 0.5, "m2ib": 2.0, "rise": 1.0})
    lines = {(line.metric, line.method): line for line in summary.lines.itertuples()}
    drop = lines["confidence_drop", "m2ib"]
    assert (drop.mean, drop.pairs, drop.win_rate, drop.seconds) == (3.0, 4, 0.125, 2.0)  # one tie, three losses
    assert lines["confidence_drop", "rise"].pairs == 3
    assert lines["confidence_drop", "rise"].win_rate == 0.5
    assert np.isnan(lines["confidence_drop", "nib"].p_holm)
    raw = 2 / 2**3  # of three differences, all have one sign
    assert drop.p_holm == pytest.approx(min(1, 4 * raw))  # of two metrics and two methods; the other p are 1
    by_recipe = {(one.nib, one.quantity): one for one in headlines(summary)}
    image = by_recipe["nib", "image"]
    assert image.gain[0] == pytest.approx(((3 - 1.5) / 3 + (50 - 25) / 50) / 2)
    assert image.gain_relative_to_m2ib[0] == pytest.approx(((3 - 1.5) / 3 + (50 - 25) / 25) / 2)
    assert image.gain[1] <= image.gain[0] <= image.gain[2]
    increase = lines["confidence_increase", "rise"]
    assert (increase.low, increase.high) == pytest.approx((0.0, 100 * (1 - 0.025 ** (1 / 4)))), (
        "the exact one of 0 of 4, in %"
    )
    assert by_recipe["nib", "speed"].gain == pytest.approx((0.75, 0.75, 0.75))
    assert by_recipe["nib", "speed"].gain_relative_to_m2ib[0] == pytest.approx(3)
    values = summary.values[*summary.groups[0], "image", "confidence_drop"]
    np.testing.assert_array_equal(values[["nib", "m2ib", "rise"]].to_numpy().T, list(drops.values()))


@pytest.mark.slow
def test_few_tables_of_equal_methods_have_a_star() -> None:
    """With the correction within each column, 21 % of these tables have one."""
    tables, pairs = 200, 20
    metrics = ["pointing_game", "energy", "average_precision", "deletion", "insertion", "confidence_drop"]
    methods = ["nib", "gae", "rise", "legrad", "chefer"]
    data = [{"name": "scenes", "label": f"scenes {number}"} for number in range(tables)]
    plan = Plan.read({**BASE, "methods": methods, "metrics": metrics, "sides": ["image"], "data": data})
    draws = np.random.default_rng(0).standard_normal((tables, len(metrics), len(methods), pairs))
    places = np.stack(np.meshgrid(*map(range, draws.shape), indexing="ij"), -1).reshape(-1, 4)
    blank = {"curve": "", "error": "", "target": "cosine", "seed": 0, "resolved": "", "seconds": 1.0, "side": "image"}
    frame = pd.DataFrame(
        {
            **{name: [value] * len(places) for name, value in blank.items()},
            "model": plan.models[0].label,
            "data": [plan.data[place[0]].label for place in places],
            "metric_label": [plan.metrics[place[1]].label for place in places],
            "method_label": [methods[place[2]] for place in places],
            "item": places[:, 3],
            "value": draws.ravel(),
        }
    )
    lines = Summary.of(plan, frame).lines
    assert len(lines) == tables * len(metrics) * len(methods)
    has_star = lines.assign(star=lines["p_holm"] < 0.05).groupby("data", observed=True)["star"].any()
    assert 0 < has_star.mean() <= 0.05


def test_another_base_is_compared_with(tmp_path: Path) -> None:
    plan = Plan.read({**BASE, "methods": ["nib", "gae"], "metrics": ["energy"], "sides": ["image"]})
    numbers = {("image", "energy", "nib"): [0.1, 0.2, 0.3], ("image", "energy", "gae"): [0.2, 0.3, 0.5]}
    summary = make_summary(tmp_path, plan, numbers, {"nib": 1.0, "gae": 1.0}, base="gae")
    lines = {line.method: line for line in summary.lines.itertuples()}
    assert math.isnan(lines["gae"].p_holm)
    assert lines["nib"].p_holm == pytest.approx(0.25)
    assert lines["nib"].win_rate == 0
    table = next(iter(_tables(summary)))
    assert "the base method, gae, at 0.05" in table.note
    assert "square brackets" in table.latex()
    with pytest.raises(BadOption, match=r"base must be one of .*gae.* \(got 'rise'\)"):
        Summary.of(plan, pd.DataFrame(columns=[*COLUMNS]), "rise")


def of_views(folder: Path, views: dict[str, int], base: str | None = None) -> Summary:
    """Return a summary of methods with these numbers of views; the values of each are higher than those before it."""
    methods = [name.replace(" paper", ":paper") for name in views if name != "random"]
    plan = Plan.read({**BASE, "methods": methods, "metrics": ["energy"]})
    numbers = {
        ("image", "energy", name): [0.1 * step, 0.1 * step + 0.01, 0.1 * step + 0.02] for step, name in enumerate(views)
    }
    return make_summary(folder, plan, numbers, dict.fromkeys(views, 1.0), views, base)


def test_methods_are_compared_at_equal_views(tmp_path: Path) -> None:
    """A method without a base method of as many views has no p value and no win rate; controls are always compared."""
    views = {"nib": 3, "gae views=3": 3, "nib paper": 1, "nib views=1": 1, "gae": 1, "rise views=2": 2, "random": 1}
    summary = of_views(tmp_path, views)
    lines = {line.method: line for line in summary.lines.itertuples()}
    assert {name: line.base for name, line in lines.items()} == {
        "nib": "",
        "gae views=3": "nib",
        "nib paper": "nib views=1",
        "nib views=1": "",
        "gae": "nib views=1",
        "rise views=2": "",
        "random": "nib",
    }
    assert [line.views for line in lines.values()] == [str(count) for count in views.values()]
    for line in lines.values():
        assert math.isnan(line.p_holm) == math.isnan(line.win_rate) == (line.base == "")
    assert lines["gae views=3"].win_rate == 1
    assert lines["nib paper"].win_rate == 0, "it is before nib with one view"

    means, rates, *_ = _tables(summary)
    assert "the base method with as many views: nib (3), nib views=1 (1), at 0.05" in means.note
    assert "compared at equal views" in means.note
    assert "Not compared, since no nib has as many views: rise views=2." in means.note
    assert rates.headings == ["method", "base method", "energy"]
    assert [row[:2] for row in rates.rows] == [
        ["gae views=3", "nib"],
        ["nib paper", "nib views=1"],
        ["gae", "nib views=1"],
        ["random", "nib"],
    ]


def test_a_table_says_that_a_chosen_base_method_has_other_views(tmp_path: Path) -> None:
    summary = of_views(tmp_path, {"nib": 3, "gae": 1, "random": 1}, base="gae")
    assert summary.lines["base"].tolist() == ["gae", "", "gae"]
    means, rates, *_ = _tables(summary)
    assert "Not at equal views: gae has 1, unlike nib." in means.note
    assert rates.headings == ["method", "energy"]


def test_a_table_says_that_views_are_equal(tmp_path: Path) -> None:
    means, *_ = _tables(of_views(tmp_path, {"nib": 3, "gae views=3": 3, "random": 1}))
    assert "All methods that use the model have as many views." in means.note


@pytest.mark.parametrize("name", plans())
def test_plans_of_nibt_compare_nib_at_equal_views(name: str) -> None:
    """Each plan that has another method has a NIB with as many views as that method, so that it can be compared."""
    methods = Plan.read(name).methods
    ours = [method for method in methods if method.name == "nib"]
    views = {str(method.options.get("views", 3 if method.variant == "default" else 1)) for method in ours}
    others = [method for method in methods if method.name != "nib" and method.plugin.category != "control"]
    assert {str(method.options.get("views", 1)) for method in others} <= views


def test_a_metric_in_which_a_control_is_ahead_is_named(tmp_path: Path) -> None:
    plan = Plan.read(
        {**BASE, "methods": ["nib", "rise"], "metrics": ["confidence_drop", "deletion", "energy"], "sides": ["image"]}
    )
    values = {
        "confidence_drop": {"nib": 1.0, "rise": 3.0, "random": 2.0, "ones": 4.0, "center": 5.0},  # lower is better
        "deletion": {"nib": 1.0, "rise": 1.5, "random": 2.0, "ones": 4.0, "center": 5.0},
        "energy": {"nib": 0.2, "rise": 0.5, "random": 0.1, "ones": 0.2, "center": 0.3},  # higher is better
    }
    numbers = {
        ("image", metric, name): [value] * 3 for metric, means in values.items() for name, value in means.items()
    }
    summary = make_summary(tmp_path, plan, numbers, dict.fromkeys(values["deletion"], 1.0))
    (table, *_) = _tables(summary)
    assert table.note.endswith(
        "A control is ahead, so do not rank methods by these metrics alone: confidence_drop (random is better than "
        "rise); energy (center is better than nib)."
    )


@pytest.mark.slow
def test_report_is_written_in_every_format(
    tmp_path: Path, plan: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan |= {"published": True, "data": [{**plan["data"][0], "label": "flickr8k"}]}
    nibt.benchmark(plan, tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        main(["show", str(tmp_path / "run")])
    assert not left.value.code
    printed = capsys.readouterr().out
    text = (tmp_path / "run" / "report.md").read_text()
    assert text in printed
    for message in (
        "published / this run",
        "1.450 / ",
        "published gain",
        "2.png",
        "ones",
        "random",
        "center",
        "weights ",
    ):
        assert message in text, message
    page = check_page((tmp_path / "run" / "report.html").read_text())
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=.https?:", page)
    table = (tmp_path / "run" / "report.tex").read_text()
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == text.count("\n## ")
    assert "confidence\\_drop protocol=paper" in table
    assert len((tmp_path / "run" / "report.csv").read_text().splitlines()) == 1 + 6 * (4 + 3)


def test_pairs_per_second_have_an_interval_over_batches() -> None:
    seconds = np.repeat([0.1, 0.11, 0.09, 0.12], 8)
    rate = per_second(seconds)
    assert rate.mean == pytest.approx(1 / seconds.mean())
    assert rate == pytest.approx(per_second(seconds[::8]))
    assert 0 < rate.low < rate.mean < rate.high < math.inf


@pytest.mark.parametrize("seconds", [[0.1] * 8, [1e-3, 10.0], [100.0, 10.0, 2.0]])
def test_pairs_per_second_of_few_batches_have_no_interval(seconds: list[float]) -> None:
    rate = per_second(np.array(seconds))
    assert rate.mean == pytest.approx(1 / np.mean(seconds))
    assert math.isnan(rate.low)
    assert math.isnan(rate.high)


def test_pairs_per_second_of_nothing_are_unknown() -> None:
    assert math.isnan(per_second(np.array([])).mean)
