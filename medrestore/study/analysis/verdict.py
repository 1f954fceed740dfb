"""What the primary endpoint of a study says, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrestore.study.labels import arm_label
from medrestore.study.measures import Measure
from medrestore.study.statistics.analyze import Analysis
from medrestore.study.statistics.results import DifferenceRow, NonInferiorityRow

__all__ = ["Verdict", "listed", "p_text", "verdict_of"]


@dataclass(frozen=True)
class Verdict:
    """The pre-registered comparison.

    Parameters
    ----------
    measure
        What was compared.
    arm, reference
        The two arms.
    means
        Of the arm and of the reference, over readers.
    difference
        Arm minus reference.
    non_inferiority
        Test against the margin; None where the plan has none.
    sentences
        The result in words: the estimates, and the conclusion.
    """

    measure: Measure
    arm: str
    reference: str
    means: tuple[float, float]
    difference: DifferenceRow
    non_inferiority: NonInferiorityRow | None
    sentences: tuple[str, str]

    @property
    def text(self) -> str:
        """Both sentences."""
        return " ".join(self.sentences)


def verdict_of(analysis: Analysis, measure: Measure, *, arm: str, reference: str) -> Verdict:
    """Return what an analysis says of an arm against a reference.

    Parameters
    ----------
    analysis
        Of the measure, with this reference; with a margin when non-inferiority is the question.
    measure
        What was analyzed.
    arm, reference
        Methods of the analysis.
    """
    mean = {row.method: row.mean for row in analysis.methods}
    row = next(item for item in analysis.differences_from_reference if item.first == arm)
    tested = next((item for item in analysis.non_inferiority if item.method == arm), None)
    digits, level = measure.digits, f"{100 * (1 - analysis.alpha):g} %"
    title = f"{measure.noun[0].upper()}{measure.noun[1:]}"
    estimates = (
        f"{title} was {mean[arm]:.{digits}f} with {arm_label(arm)} and {mean[reference]:.{digits}f} with "
        f"{arm_label(reference)}: difference {row.difference:+.{digits}f}"
    )
    if row.low is not None:
        estimates += f" ({level} interval {row.low:+.{digits}f} to {row.high:+.{digits}f})"
    if row.p is not None:
        estimates += f", p {p_text(row.p)}"
    conclusion = _conclusion(row, tested, analysis, arm_label(arm), arm_label(reference))
    return Verdict(
        measure, arm, reference, (mean[arm], mean[reference]), row, tested, (f"{estimates}.", conclusion)
    )


def _conclusion(
    row: DifferenceRow, tested: NonInferiorityRow | None, analysis: Analysis, arm: str, reference: str
) -> str:
    better = None
    if row.p is not None and row.p < analysis.alpha:
        better = (row.difference > 0) == analysis.higher_is_better
    if tested is None:
        if row.p is None:
            return "Neither readers nor cases vary, so that no test is possible."
        if better is None:
            return f"A difference between {arm} and {reference} is not shown."
        return f"{arm} is {'better' if better else 'worse'} than {reference}."
    margin = (
        f"the margin of {analysis.margin:g} (one-sided p {p_text(tested.p)})" if tested.p is not None else ""
    )
    if tested.non_inferior is None:
        return "Non-inferiority cannot be tested: neither readers nor cases vary."
    if tested.non_inferior:
        end = " It is better as well." if better else ""
        end = " It is nevertheless worse, by less than the margin." if better is False else end
        return f"{arm} is non-inferior to {reference}: the interval stays within {margin}.{end}"
    text = f"Non-inferiority of {arm} to {reference} is not shown: the interval reaches beyond {margin}."
    return text + (f" {arm} is worse than {reference}." if better is False else "")


def p_text(p: float) -> str:
    """Return a p value with its sign, as it stands in a sentence.

    >>> p_text(0.0412), p_text(0.00001), p_text(1.0)
    ('= 0.041', '< 0.001', '= 1.000')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
