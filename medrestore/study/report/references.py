"""Sources of the methods that a study's report names, numbered in the order in which they are cited."""

from __future__ import annotations

from medrestore.checks import require_in_set

__all__ = ["SOURCES", "Citations"]

SOURCES = {
    "obuchowski_rockette": "Obuchowski NA, Rockette HE. Hypothesis testing of diagnostic accuracy for "
    "multiple "
    "readers and multiple tests: an ANOVA approach with dependent observations. Commun Stat Simul Comput "
    "1995;24(2):285-308.",
    "hillis_2007": "Hillis SL. A comparison of denominator degrees of freedom methods for multiple observer "
    "ROC analysis. Stat Med 2007;26(3):596-619.",
    "hillis_2014": "Hillis SL. A marginal-mean ANOVA approach for analyzing multireader multicase "
    "radiological imaging data. Stat Med 2014;33(2):330-360.",
    "chen_2012": "Chen W, Petrick NA, Sahiner B. Hypothesis testing in noninferiority and equivalence MRMC "
    "ROC studies. Acad Radiol 2012;19(9):1158-1165.",
    "delong": "DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated "
    "receiver operating characteristic curves: a nonparametric approach. Biometrics 1988;44(3):837-845.",
    "gallas": "Gallas BD. One-shot estimate of MRMC variance: AUC. Acad Radiol 2006;13(3):353-362.",
    "chen_2014": "Chen W, Samuelson FW. The average receiver operating characteristic curve in multireader "
    "multicase imaging studies. Br J Radiol 2014;87(1040):20140016.",
    "wilson": "Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat "
    "Assoc 1927;22(158):209-212.",
    "newcombe": "Newcombe RG. Two-sided confidence intervals for the single proportion: comparison of seven "
    "methods. Stat Med 1998;17(8):857-872.",
    "holm": "Holm S. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6(2):65-70.",
    "sidak": "Šidák Z. Rectangular confidence regions for the means of multivariate normal distributions. J "
    "Am Stat Assoc 1967;62(318):626-633.",
    "fdr_bh": "Benjamini Y, Hochberg Y. Controlling the false discovery rate: a practical and powerful "
    "approach to multiple testing. J R Stat Soc B 1995;57(1):289-300.",
    "cohen": "Cohen J. A coefficient of agreement for nominal scales. Educ Psychol Meas 1960;20(1):37-46.",
    "fleiss": "Fleiss JL. Measuring nominal scale agreement among many raters. Psychol Bull "
    "1971;76(5):378-382.",
    "gwet": "Gwet KL. Computing inter-rater reliability and its variance in the presence of high agreement. "
    "Br J Math Stat Psychol 2008;61(1):29-48.",
    "krippendorff": "Krippendorff K. Computing Krippendorff's alpha-reliability. University of Pennsylvania, "
    "2011.",
    "shrout_fleiss": "Shrout PE, Fleiss JL. Intraclass correlations: uses in assessing rater reliability. "
    "Psychol Bull 1979;86(2):420-428.",
    "bang": "Bang H, Ni L, Davis CE. Assessment of blinding in clinical trials. Control Clin Trials "
    "2004;25(2):143-156.",
    "bland_altman": "Bland JM, Altman DG. Statistical methods for assessing agreement between two methods of "
    "clinical measurement. Lancet 1986;327(8476):307-310.",
}
"""Key -> reference."""


class Citations:
    """Numbers sources as they are cited.

    Examples
    --------
    >>> cited = Citations()
    >>> cited("wilson", "newcombe"), cited("wilson")
    ('[1, 2]', '[1]')
    >>> cited.listing[1].partition(".")[0]
    '2'
    """

    def __init__(self) -> None:
        self._order: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Cite sources: return their numbers in brackets."""
        for key in keys:
            require_in_set("source", key, SOURCES)
            if key not in self._order:
                self._order.append(key)
        return f"[{', '.join(str(self._order.index(key) + 1) for key in keys)}]"

    @property
    def listing(self) -> list[str]:
        """The sources that were cited, by their numbers."""
        return [f"{number}. {SOURCES[key]}" for number, key in enumerate(self._order, start=1)]
