"""A study in words: the methods section of a paper, which ``methods.txt.jinja`` holds."""

from __future__ import annotations

import re
from importlib import metadata

import medrestore
from medrestore.checks import counted
from medrestore.evaluation.pages.texts import environment
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.verdict import listed
from medrestore.study.labels import ALL, arm_label
from medrestore.study.measures import CORRECTIONS, COVARIANCES, MEASURES
from medrestore.study.report.references import Citations
from medrestore.study.report.texts import FOLDER, held

__all__ = ["methods_text"]

PACKAGES = ("numpy", "scipy", "statsmodels", "scikit-learn")


def methods_text(analysis: StudyAnalysis) -> tuple[list[str], list[str]]:
    """Return the methods section of a paper, filled in from what was done.

    Returns
    -------
    paragraphs, references
        References are numbered as the paragraphs cite them.
    """
    cite = Citations()
    main, plan, truth = analysis.main, analysis.study.plan, analysis.unblinded.truth
    first = MEASURES[plan["primary"]["metric"]].name if plan.get("primary") else ""
    between, within = main.tables.agreement_between_readers, main.tables.agreement_within_readers
    coefficients = " ".join(between["coefficient"].unique()) if len(between) else ""
    writer = environment(FOLDER, autoescape=False)
    writer.filters |= {"label": arm_label, "share": "{:.0%}".format}
    text = writer.get_template("methods.txt.jinja").render(
        analysis=analysis,
        study=analysis.study,
        plan=plan,
        main=main,
        settings=analysis.settings,
        held=analysis.unblinded,
        positive=sum(truth.get(case, 0) for case in plan["cases"]),
        known=sum(case in truth for case in plan["cases"]),
        others=[measure.noun for measure in main.measured if measure.name != first],
        agreements=[one for one in held("texts")["agreements"] if one["word"] in coefficients],
        pairs=int(within.loc[within["reader"] == ALL, "pairs"].iloc[0]) if len(within) else 0,
        measures=MEASURES,
        covariances=COVARIANCES,
        corrections=CORRECTIONS,
        version=medrestore.__version__,
        packages=[f"{name} {metadata.version(name)}" for name in PACKAGES],
        **{"cite": cite, "counted": counted, "listed": listed},
    )
    paragraphs = re.split(r"\n{2,}", text.strip())
    return [paragraph.replace("\n", " ") for paragraph in paragraphs], cite.listing
