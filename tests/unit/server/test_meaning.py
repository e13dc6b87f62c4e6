"""What the model says, in reports and cards."""

import dataclasses

import pytest

from server.meaning import dependence_legend, dependence_plots, forests, text_tables
from server.model_card import model_card
from server.report import render
from server.scale import ratio_scale, scale
from shared.interpretation import Dependence, Estimate, ForestPlot, Interpretation, Table
from tests.unit.server.outcomes import outcome_of

TABLE = Table(
    "Coefficients",
    ("term", "odds ratio", "p"),
    (("age <60", 2.0, 0.0123456), ("chol", 1.0, None)),
    note="chol is not estimated.",
)
PLOT = ForestPlot("Odds ratios", "odds ratio", 1.0, (Estimate("age", 2.0, 1.0, 4.0),))
SAID = Interpretation(("Two columns of one meaning.",), (TABLE,), (PLOT,))


def test_a_ratio_lies_on_a_logarithmic_axis():
    (forest,) = forests(SAID)
    # The axis runs from 1 to 5; ln 2 / ln 5 = 0.431, ln 4 / ln 5 = 0.861.
    assert ("1", "2", "5") == tuple(text for _, text in forest.ticks)
    assert 0.0 == forest.reference
    mark = forest.rows[0].mark
    assert pytest.approx((0.0, 0.431, 0.861), abs=1e-3) == (mark.low, mark.value, mark.high)
    assert ("2.00", "1.00 to 4.00") == (forest.rows[0].value, forest.rows[0].range)
    assert not forest.cut


def test_an_interval_without_an_end_is_cut_at_the_end_of_the_axis():
    (forest,) = forests(Interpretation((), (), (ForestPlot("", "odds ratio", 1.0, (Estimate("x", 9.0, 1e-9, 1e9),)),)))
    assert (0.0, 1.0) == (forest.rows[0].mark.low, forest.rows[0].mark.high)
    assert ("0.01", "100") == (forest.ticks[0][1], forest.ticks[-1][1])
    assert forest.cut


def test_differences_lie_on_an_axis_that_holds_zero():
    (forest,) = forests(Interpretation((), (), (ForestPlot("", "coefficient", 0.0, (Estimate("x", 3.0, 2.0, 4.0),)),)))
    assert ("0", "1", "2", "3", "4") == tuple(text for _, text in forest.ticks)
    assert (0.0, 0.75) == (forest.reference, forest.rows[0].mark.value)


def test_an_axis_of_ratios_has_at_most_six_round_ticks():
    assert (0.1, 10.0, (0.1, 0.3, 1.0, 3.0, 10.0)) == _ticks(ratio_scale(0.12, 8.0))
    assert (0.5, 2.0, (0.5, 1.0, 2.0)) == _ticks(ratio_scale(0.7, 1.3))
    assert (0.001, 100.0, (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)) == _ticks(ratio_scale(0.002, 50.0))
    assert (1.0, 2.0, (1.0, 2.0)) == _ticks(ratio_scale(1.0, 1.0))


def _ticks(found):
    low, high, ticks = found
    return pytest.approx(low), pytest.approx(high), pytest.approx(tuple(value for value, _ in ticks))


def test_an_axis_of_one_number_has_a_width():
    low, high, _ = scale(3.0, 3.0)
    assert low <= 3.0 < high


def test_numbers_are_rounded_and_what_is_undefined_is_a_dash():
    (table,) = text_tables(SAID)
    assert (("age <60", "2.00", "0.0123"), ("chol", "1.00", "\N{EN DASH}")) == table.rows
    assert (True, False, False) == table.words


def test_a_table_of_ragged_rows_or_of_infinities_cannot_be():
    with pytest.raises(ValueError, match="2 cells in each row"):
        Table("t", ("a", "b"), (("x",),))
    with pytest.raises(ValueError, match="finite numbers"):
        Table("t", ("a", "b"), (("x", float("inf")),))


def test_the_report_and_the_card_show_it_with_its_texts_escaped():
    outcome = outcome_of(interpretation=SAID)
    page, card = render(outcome), model_card(outcome)
    assert '<a href="#meaning">' in page and "age &lt;60" in page and "Two columns of one meaning." in page
    assert "## What the model says: Coefficients" in card and "| chol | 1.00 |" in card
    # Once in the page: its card leaves the tables to the page's own section.
    assert 1 == page.count("chol is not estimated.")


def test_a_model_that_says_nothing_has_no_such_section():
    outcome = outcome_of()
    assert 'id="meaning"' not in render(outcome) and "What the model says" not in model_card(outcome)


def test_a_long_table_is_folded_in_the_report_and_left_out_of_the_card():
    rows = tuple((f"column {k}", 1.0) for k in range(41))
    outcome = outcome_of(interpretation=Interpretation((), (Table("Weights", ("column", "weight"), rows),)))
    page, card = render(outcome), model_card(outcome)
    assert "<details><summary>Show 41 rows</summary>" in page and "column 40" in page
    assert "Its 41 rows are in the report and in metrics.json." in card and "column 40" not in card


def test_small_p_values_are_not_told_apart():
    (table,) = text_tables(Interpretation((), (Table("Coefficients", ("column", "p"), (("age", 1e-9),)),)))
    assert ("age", "<0.001") == table.rows[0]


DEPENDENCE = Dependence(
    "radius <mm>", "mm", (0.0, 30.0), ("probability of yes",), (10.0, 20.0), ((0.1,), (0.2,), (0.9,))
)


def test_a_dependence_without_a_value_on_both_sides_of_each_edge_cannot_be():
    with pytest.raises(ValueError, match="both sides"):
        dataclasses.replace(DEPENDENCE, edges=(10.0,))


def test_partial_dependence_is_a_chart_with_its_numbers_folded_below():
    outcome = outcome_of(interpretation=Interpretation((), dependences=(DEPENDENCE,)))
    page, card = render(outcome), model_card(outcome)
    assert "What the model says on average: from 0.100 at the lowest values of the column to 0.900." in page
    assert "<summary>Numbers of radius &lt;mm&gt;</summary>" in page and "radius <mm>" not in page
    assert r"Partial dependence on radius \<mm\> is in the report and in metrics.json." in card
    rows = dependence_plots(outcome.interpretation)[0].table.rows
    dash = "\N{EN DASH}"
    assert ((dash, "10.0", "0.100"), ("10.0", "20.0", "0.200"), ("20.0", dash, "0.900")) == rows


def test_several_lines_of_a_dependence_have_a_legend_and_differ():
    several = dataclasses.replace(DEPENDENCE, names=("a", "b"), values=((0.1, 0.9), (0.2, 0.8), (0.9, 0.1)))
    (colour, _, name), (other, _, _) = dependence_legend(Interpretation(dependences=(several,)))
    assert "a" == name and colour != other
    assert "2 lines of 3 steps" in dependence_plots(Interpretation(dependences=(several,)))[0].chart


def test_bars_go_from_zero_to_the_number_and_the_numbers_have_equal_decimals():
    said = Table("Importance", ("column", "worse by"), (("a", 0.03), ("b", 0.0), ("c", -0.01)), bars="worse by")
    (table,) = text_tables(Interpretation(tables=(said,)))
    assert ["0.0300", "0.0000", "\N{MINUS SIGN}0.0100"] == [row[1] for row in table.rows]
    assert 0.25 == table.zero
    assert [(0.25, 1.0), (0.25, 0.25), (0.0, 0.25)] == [(bar.low, bar.high) for bar in table.bars]
    assert 3 == render(outcome_of(interpretation=Interpretation(tables=(said,)))).count('class="bar"')
