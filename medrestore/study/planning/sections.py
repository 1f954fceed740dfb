"""The sections of a plan: each is checked on its own and returned in its normal form."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from medrestore.checks import InputError, require_in_range, require_in_set, require_known_keys
from medrestore.data.texts import plain_text
from medrestore.study.measures import COVARIANCES, MEASURES
from medrestore.study.protocol import CANNOT_TELL, Protocol
from medrestore.study.questions import is_number

__all__ = [
    "ONE_PER_CASE",
    "arm_section",
    "cases_section",
    "contains",
    "fraction_section",
    "guess_section",
    "number",
    "plain",
    "preparation_section",
    "primary_section",
    "reader_section",
    "require_name",
    "subjects_section",
    "title_section",
    "truth_section",
    "whole",
]

TIES = ("refuse", "exclude", "positive", "negative")
KINDS = ("human", "model")
ONE_PER_CASE = "one_per_case"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_TRUTH_KEYS = {
    "file": ("file",),
    "manifest": ("manifest", "column"),
    "consensus_of": ("consensus_of", "ties"),
}


def number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    """Return a finite number within bounds."""
    if not isinstance(value, (int, float)) or not is_number(value):
        raise InputError(f"{name} must be a number, got {value!r}")
    require_in_range(name, value, low, high, include_low=not open_low, include_high=math.isfinite(high))
    return float(value)


def whole(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or value > (high or value):
        most = "or more" if high is None else f"to {high}"
        raise InputError(f"{name} must be a whole number, {low} {most}, got {value!r}")
    return value


def require_name(name: object) -> None:
    """Require a name that is safe in a file name, a link and a table."""
    if not isinstance(name, str):
        raise InputError(f"a name must be a text, got {name!r}. Remedy: put it in quotes")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a name has up to 64 letters (a to z), digits, _ and -, and begins with a letter or digit; "
            f"got {name!r}"
        )


def plain(text: str) -> str:
    """Return a text in lower case, words parted by one space, for comparisons.

    >>> plain("Low-dose  scan"), plain("low_dose")
    ('low dose scan', 'low dose')
    """
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def contains(text: str, name: str) -> bool:
    """Return whether a text contains a name as words of its own.

    >>> contains("Low-dose PET of an organ", "low_dose"), contains("Low-dose PET of an organ", "gan")
    (True, False)
    """
    return f" {plain(name)} " in f" {plain(text)} "


def title_section(value: object, arms: Collection[str]) -> str:
    """Check the title, which readers see."""
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise InputError(f"must be a text of up to 200 characters, got {value!r}")
    for arm in arms:
        if contains(value, arm):
            raise InputError(
                f"{value!r} contains the arm {arm!r}, and readers see it. Remedy: choose a neutral title"
            )
    return value


def fraction_section(value: object) -> float:
    """Check the share of hidden duplicates."""
    if value != 0 or isinstance(value, bool):
        number("it", value, -math.inf, math.inf)
        if not 0.05 <= value <= 0.3:  # type: ignore[operator]
            raise InputError(f"must be 0 or in [0.05, 0.3], got {value}. Remedy: 0.1 to 0.15 is usual")
    return float(value)  # type: ignore[arg-type]


def path_of(value: object, folder: Path) -> str:
    """Return an absolute path; relative ones are below the plan's folder."""
    if not isinstance(value, str) or not value:
        raise InputError(f"must be a path, got {value!r}")
    place = (folder / value).absolute()
    try:
        return str(place.resolve())
    except (OSError, RuntimeError):  # links in a circle, a name too long: told by whoever opens it
        return str(place)


def arm_section(value: object, folder: Path) -> dict[str, Any]:
    """Return where an arm's images are."""
    if isinstance(value, str):
        return {"images": "folder", "folder": path_of(value, folder)}
    if not isinstance(value, Mapping):
        raise InputError(f"must be a folder or a mapping with manifest and column, got {value!r}")
    require_known_keys("it", value, ("manifest", "column", "split", "dose_fraction"))
    for key in ("manifest", "column"):
        if not isinstance(value.get(key), str):
            raise InputError(f"needs a {key}, got {value.get(key)!r}")
    split, dose = value.get("split"), value.get("dose_fraction")
    if split is not None and not isinstance(split, str):
        raise InputError(f"split must be a text, got {split!r}")
    return {
        "images": "manifest",
        "manifest": path_of(value["manifest"], folder),
        "column": value["column"],
        "split": split,
        "dose_fraction": None if dose is None else number("dose_fraction", dose, 0, 1, open_low=True),
    }


def reader_section(value: object) -> dict[str, str]:
    """Return what is said of a reader."""
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise InputError(f"must be a mapping such as {{kind: model}}, got {value!r}")
    require_known_keys("it", value, ("kind",))
    require_in_set("kind", value.get("kind", "human"), KINDS)
    return {"kind": value.get("kind", "human")}


def cases_section(value: object) -> dict[str, list[str]] | None:
    """Return which cases are in, or which are left out."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        require_known_keys("it", value, ("exclude",))
        return {"exclude": _case_list("exclude", value.get("exclude"))}
    return {"only": _case_list("it", value)}


def guess_section(value: object, arms: Collection[str]) -> dict[str, list[str]] | None:
    """Return the labels that a reader may guess, each with its arms."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) < 2:
        raise InputError(f"must map two labels or more to lists of arms, got {value!r}")
    for label, names in value.items():
        if not isinstance(label, str) or not label.strip() or not isinstance(names, list) or not names:
            raise InputError(f"{label!r} must be a text with a list of arms, got {names!r}")
        if any(plain(label) == plain(arm) for arm in arms):
            raise InputError(
                f"label {label!r} is the name of an arm, and readers see it. Remedy: describe the kind of "
                "image in words"
            )
        if [str(other).casefold() for other in (*value, CANNOT_TELL)].count(label.casefold()) > 1:
            raise InputError(f"label {label!r} is there twice. Remedy: describe the kinds apart")
        for name in names:
            require_arm("it", name, arms)
    counts = Counter(name for names in value.values() for name in names)
    wrong = [name for name in arms if counts[name] != 1]
    if wrong:
        told = ", ".join(f"{name} is in {counts[name]}" for name in wrong)
        raise InputError(f"every arm must be in exactly one list: {told}")
    return {label: list(names) for label, names in value.items()}


def primary_section(value: object, arms: Collection[str], protocol: Protocol | None) -> dict[str, Any] | None:
    """Return the primary endpoint and its test."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"must be a mapping, got {value!r}")
    require_known_keys("it", value, ("metric", "arm", "reference", "margin", "alpha", "covariance"))
    metric = value.get("metric")
    require_in_set("metric", metric, tuple(MEASURES))
    measure = MEASURES[str(metric)]
    for key in ("arm", "reference"):
        require_arm(key, value.get(key), arms)
    if value["arm"] == value["reference"]:
        raise InputError(f"arm and reference are both {value['arm']!r}")
    if protocol is not None and not measure.question(protocol):
        raise InputError(f"metric {metric} needs questions that name a {measure.role}")
    margin, covariance = value.get("margin"), value.get("covariance", "jackknife")
    if margin is not None:
        margin = number("margin", margin, 0, math.inf if measure.bounds is None else 1, open_low=True)
    require_in_set("covariance", covariance, tuple(COVARIANCES))
    if covariance != "jackknife" and measure.counts is not None:
        raise InputError(f"covariance {covariance} is for metric auc; {metric} takes jackknife")
    return {
        "metric": metric,
        "arm": value["arm"],
        "reference": value["reference"],
        "margin": margin,
        "alpha": number("alpha", value.get("alpha", 0.05), 0, 0.5, open_low=True),
        "covariance": covariance,
    }


def preparation_section(
    key: str, value: object, arms: Collection[str], protocol: Protocol | None
) -> dict[str, Any] | None:
    """Return the training or the qualification."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"must be a mapping with arm and cases, got {value!r}")
    more = ("pass_mark", "attempts") if key == "qualification" else ()
    require_known_keys("it", value, ("arm", "cases", *more))
    require_arm("arm", value.get("arm"), arms)
    if protocol is not None and not protocol.decision:
        raise InputError("needs questions with a decision, which is compared with the truth")
    entry: dict[str, Any] = {"arm": value["arm"], "cases": _case_list("cases", value.get("cases"))}
    if more:
        entry["pass_mark"] = number("pass_mark", value.get("pass_mark", 0.8), 0, 1, open_low=True)
        entry["attempts"] = whole("attempts", value.get("attempts", 2), 1, 20)
    return entry


def truth_section(
    value: object, folder: Path, arms: Collection[str], protocol: Protocol | None
) -> dict[str, Any] | None:
    """Return where the truth is."""
    decision = protocol.decision if protocol is not None else ""
    if value is None:
        if decision:
            raise InputError(
                f"is missing; the decision {decision!r} is compared with it. Remedy: e.g. truth: "
                "{file: truth.csv} (columns case, truth), or questions without a decision"
            )
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"must be a mapping with file, manifest or consensus_of, got {value!r}")
    ways = [way for way in _TRUTH_KEYS if way in value]
    if len(ways) != 1:
        raise InputError(f"must have one of {', '.join(_TRUTH_KEYS)}, got {', '.join(map(str, value))}")
    way = ways[0]
    require_known_keys("it", value, _TRUTH_KEYS[way])
    if way == "consensus_of":
        require_arm("consensus_of", value[way], arms)
        require_in_set("ties", value.get("ties", "refuse"), TIES)
        if protocol is not None and not decision:
            raise InputError("consensus_of needs questions with a decision")
        return {"consensus_of": value[way], "ties": value.get("ties", "refuse")}
    entry = {way: path_of(value[way], folder)}
    if way == "manifest":
        if not isinstance(value.get("column"), str):
            raise InputError(f"needs a column, got {value.get('column')!r}")
        entry["column"] = value["column"]
    return entry


def subjects_section(value: object, folder: Path) -> dict[str, str] | str | None:
    """Return where the subjects of the cases are named."""
    if value is None or value == ONE_PER_CASE:
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"must be {{file: subjects.csv}} or {ONE_PER_CASE}, got {value!r}")
    require_known_keys("it", value, ("file",))
    return {"file": path_of(value.get("file"), folder)}


def require_arm(key: str, name: object, arms: Collection[str]) -> None:
    """Require the name of an arm."""
    from difflib import get_close_matches

    if not isinstance(name, str) or name not in arms:
        near = get_close_matches(str(name), list(arms), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"arms: {', '.join(arms)}"
        raise InputError(f"{key} must be an arm, got {name!r}; {hint}")


def _case_list(key: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{key} must be a list of cases, got {value!r}")
    for case in value:
        if not isinstance(case, str):
            raise InputError(f"{key}: a case must be a text, got {case!r}. Remedy: put it in quotes")
    cases = [plain_text(case) for case in value]  # as tables of cases are read
    twice = sorted(case for case, count in Counter(cases).items() if count > 1)
    if twice:
        raise InputError(f"{key} names {', '.join(twice)} twice")
    return cases
