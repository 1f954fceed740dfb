"""A study in words: the methods paragraph of a paper."""

from __future__ import annotations

from importlib import metadata

import medrestore
from medrestore.checks import counted
from medrestore.study.analysis.analyze import StudyAnalysis
from medrestore.study.analysis.verdict import listed
from medrestore.study.labels import ALL, arm_label
from medrestore.study.measures import CORRECTIONS, COVARIANCES, MEASURES
from medrestore.study.report.references import Citations

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
    paragraphs = [_design(analysis), _truth(analysis), _primary(analysis, cite), _secondary(analysis, cite)]
    paragraphs += [_besides(analysis, cite), _software(analysis)]
    return [text for text in paragraphs if text], cite.listing


def _design(analysis: StudyAnalysis) -> str:
    study, main = analysis.study, analysis.main
    plan = study.plan
    labels = listed([arm_label(arm) for arm in main.arms])
    who = "model readers, as a rehearsal," if main.kind == "model" else counted(len(main.readers), "reader")
    text = (
        f"Design: {who} read {counted(main.cases, 'case')} under "
        f"{counted(len(main.arms), 'condition')} ({labels}), fully crossed, in "
        f"{counted(int(plan['sessions']), 'session')}"
    )
    if plan["sessions"] > 1 and plan["washout_days"]:
        text += f" with a washout of at least {plan['washout_days']:g} days between them"
    several = len(main.arms) > 1 and plan["sessions"] > 1
    balanced = ", conditions were balanced over sessions" if several else ""
    text += (
        f". The order was drawn anew for every reader{balanced}, and no subject was "
        "shown twice in one session. All images of a case had the same header, grid, data type and display "
        "window; readers were blinded to condition, subject and other readers."
    )
    if plan["duplicate_fraction"]:
        text += (
            f" {plan['duplicate_fraction']:.0%} of the images were shown a second time as hidden duplicates."
        )
    if plan.get("training"):
        text += f" Before that, readers were trained on {len(plan['training']['cases'])} further cases"
        text += " with the truth shown after each answer."
    if plan.get("qualification"):
        entry = plan["qualification"]
        text += (
            f" They qualified by {len(entry['cases'])} further cases, of which {entry['pass_mark']:.0%} had "
            f"to be read as the truth says, in at most {counted(int(entry['attempts']), 'attempt')}."
        )
    return (
        f"{text} Plan and reading list were frozen before the first read (SHA-256 {study.plan_sha256[:12]} "
        "and "
        f"{study.design['reading_list_sha256'][:12]}), and every read was recorded in an append-only, "
        "hash-chained record."
    )


def _truth(analysis: StudyAnalysis) -> str:
    held, protocol = analysis.unblinded, analysis.study.protocol
    if not held.truth or not (protocol.decision or protocol.score):
        return ""
    cases = held.study.plan["cases"]
    positive = sum(held.truth.get(case, 0) for case in cases)
    known = sum(case in held.truth for case in cases)
    counts = f"{positive} of {known} cases were positive."
    if not held.truth_arm:
        return f"Reference standard: the truth of each case was given with the study; {counts}"
    ties = {
        "refuse": "",
        "exclude": " Cases over which readers were split were excluded.",
        "positive": " Cases over which readers were split counted as positive.",
        "negative": " Cases over which readers were split counted as negative.",
    }[str(held.study.plan["truth"].get("ties") or "refuse")]
    return (
        f"Reference standard: the truth of each case was the majority of the readers' decisions on its "
        f"{arm_label(held.truth_arm)} image; {counts}{ties} That condition has no errors by definition and "
        "was left out of all comparisons with the truth."
    )


def _primary(analysis: StudyAnalysis, cite: Citations) -> str:
    main, plan = analysis.main, analysis.study.plan.get("primary")
    generalizes = (
        "readers and cases as random" if main.taken_as == "random" else "readers as fixed and cases as random"
    )
    text = (
        "Statistical analysis: figures of merit were compared by the multi-reader multi-case method of "
        "Obuchowski and "
        f"Rockette {cite('obuchowski_rockette')} with the degrees of freedom of Hillis "
        f"{cite('hillis_2007')}, taking "
        f"{generalizes}; the mean of a single condition has the interval of Hillis {cite('hillis_2014')}."
    )
    if not plan:
        return f"{text} There was no pre-registered primary endpoint."
    measure = MEASURES[plan["metric"]]
    covariance = COVARIANCES[plan["covariance"]]
    text += (
        f" The pre-registered primary endpoint was the {measure.noun} with {arm_label(plan['arm'])} against "
        f"{arm_label(plan['reference'])}, two-sided alpha {plan['alpha']:g}, with the covariance over cases "
        f"by {covariance.phrase}{' ' + cite(*covariance.sources) if covariance.sources else ''}."
    )
    if plan["margin"] is not None:
        text += (
            f" Non-inferiority {cite('chen_2012')} was tested one-sided at {plan['alpha'] / 2:g} against a "
            f"margin of {plan['margin']:g}."
        )
    return text


def _secondary(analysis: StudyAnalysis, cite: Citations) -> str:
    main, settings = analysis.main, analysis.settings
    plan = analysis.study.plan.get("primary")
    first = MEASURES[plan["metric"]].name if plan else ""
    others = [measure.noun for measure in main.measured if measure.name != first]
    text = f"Secondary measures were {listed(others)}." if others else ""
    if "auc" in main.measures:
        covariance = COVARIANCES[settings.covariance]
        source = f" {cite(*covariance.sources)}" if covariance.sources else ""
        text += f" The area is that under the empirical curve, its covariance by {covariance.phrase}{source};"
        text += f" mean curves average readers along lines of constant sum of both rates {cite('chen_2014')}."
    level = f"{100 * (1 - settings.alpha):g} %"
    text += f" Intervals are {level}"
    if any(measure.is_proportion for measure in main.measured):
        text += f"; proportions of single readers have Wilson intervals {cite('wilson', 'newcombe')}"
    text += "."
    if len(main.arms) == 1:
        return text.strip()
    correction, cited = CORRECTIONS[settings.correction]
    if correction:
        text += f" P values of differences were adjusted within each measure by {correction}"
        text += f"{' ' + cite(*cited) if cited else ''}."
    else:
        text += " P values of differences were not adjusted for multiple comparisons."
    return text.strip()


def _besides(analysis: StudyAnalysis, cite: Citations) -> str:
    main = analysis.main
    parts = []
    between = main.tables.agreement_between_readers
    if len(between):
        keys = {
            "Fleiss": "fleiss",
            "Gwet": "gwet",
            "Krippendorff": "krippendorff",
            "ICC": "shrout_fleiss",
            "Cohen": "cohen",
        }
        names = {
            "fleiss": "Fleiss' kappa",
            "gwet": "Gwet's AC1 and AC2 (quadratic weights)",
            "krippendorff": "Krippendorff's alpha",
            "shrout_fleiss": "ICC(2,1)",
            "cohen": "Cohen's kappa",
        }
        used = [
            key for word, key in keys.items() if any(word in name for name in between["coefficient"].unique())
        ]
        other = "; ".join(
            text
            for key, text in {"cohen": "kappa of Cohen: asymptotic", "shrout_fleiss": "ICC: F"}.items()
            if key in used
        )
        parts.append(
            "Agreement between readers was measured by "
            + listed([f"{names[key]} {cite(key)}" for key in used])
            + f", with bootstrap intervals over cases{f' ({other})' if other else ''}."
        )
    within = main.tables.agreement_within_readers
    if len(within):
        pairs = int(within.loc[within["reader"] == ALL, "pairs"].iloc[0])
        parts.append(
            f"Agreement within readers was measured on {pairs} hidden duplicates by the share of equal reads "
            f"and Cohen's kappa {cite('cohen')}."
        )
    if main.guessed is not None:
        parts.append(
            "Readers were asked what kind of image they saw; blinding was judged by Bang's index "
            f"{cite('bang')}, extended to more than two kinds by weighting wrong guesses by 1/(K - 1)."
        )
    if analysis.quantified is not None:
        parts.append(
            f"The {analysis.quantified.quantity.phrase} of every image was compared with that of the "
            f"{arm_label(analysis.quantified.reference)} image by 95 % limits of agreement "
            f"{cite('bland_altman')}."
        )
    held = analysis.unblinded
    dropped = len(held.dropped[main.kind])
    if dropped:
        parts.append(
            f"Reads were missing: {counted(dropped, 'case was', 'cases were')} left out, as declared."
        )
    else:
        parts.append("No read was missing.")
    return " ".join(parts)


def _software(analysis: StudyAnalysis) -> str:
    generator = analysis.study.design["generator"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return (
        f"Software: medrestore {medrestore.__version__} with {versions}; random order by {generator['name']} "
        f"({generator['version']})."
    )
