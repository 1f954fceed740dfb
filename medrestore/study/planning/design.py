"""Who reads what, and when: balanced sessions, hidden duplicates, an order of its own for each reader.

The design of one reader, subjects in random order. A *read* is one image; a subject brings ``n`` of them
(its scans x the arms). Subjects with the same number of scans form blocks of as many subjects as there are
sessions. A block draws one random permutation of the sessions; its first ``n`` places belong to the reads,
the others stay free. Each subject of the block shifts it by another offset. So a full block has every read of
its scheme once in each session, and a subject is never twice in one. The subjects that fill no block follow
one by one, each by the assignment that keeps the arms of all sessions as even as can be.

Duplicates go to free places of their subjects: never into a session of that subject. Their sessions are drawn
as even as can be, their arms by a linear program: equally often over all (within one), and in each session so
that the arms are as even as can be. A draw in which a session still has one arm two times more often than
another is drawn again, some times; with several scans a subject it may not be possible.

Everything is drawn from the plan's seed *and* a secret salt. A reader who knows the plan, this code and the
seed can compute neither the order nor an id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medrestore.checks import InputError, require_in_range
from medrestore.rng import generator
from medrestore.study.layout import QUALIFICATION, READING, READING_COLUMNS, TRAINING
from medrestore.study.planning.ids import random_ids

__all__ = ["duplicate_count", "least_sessions", "make_reading_list"]

DRAWS = 20
"""How often a reader's order is drawn when it comes out uneven."""

IMAGE_COLUMNS = ("image_id", "phase", "case", "subject", "arm")


def least_sessions(arms: int, *, scans: int = 1, duplicate_fraction: float = 0.0) -> int:
    """Return the fewest sessions in which a subject need never be seen twice.

    Each scan of a subject is read once in every arm, and the share ``duplicate_fraction`` of these reads once
    more, each in a session of its own.

    Parameters
    ----------
    arms
        Number of arms.
    scans
        Most scans that one subject has.
    duplicate_fraction
        Share of hidden duplicates.

    >>> least_sessions(4), least_sessions(4, duplicate_fraction=0.1), least_sessions(4, scans=2)
    (4, 5, 8)
    """
    return arms * scans + _most_repeats(arms * scans, duplicate_fraction)


def duplicate_count(reads: int, duplicate_fraction: float) -> int:
    """Return how many of a reader's reads are asked twice: at least one where any are wanted.

    >>> duplicate_count(160, 0.1), duplicate_count(4, 0.1), duplicate_count(160, 0)
    (16, 1, 0)
    """
    return max(1, round(duplicate_fraction * reads)) if duplicate_fraction and reads else 0


def _most_repeats(reads: int, duplicate_fraction: float) -> int:
    """Return how many reads of a subject with so many reads may be asked twice."""
    return math.ceil(duplicate_fraction * reads - 1e-9)  # 0.1 * 30 is 3.0000000000000004


def make_reading_list(
    images: pd.DataFrame,
    *,
    readers: Sequence[str],
    sessions: int,
    duplicate_fraction: float,
    seed: int,
    salt: str,
    attempts: int = 0,
) -> pd.DataFrame:
    """Draw the reading list of a study.

    Parameters
    ----------
    images
        One row an image: ``image_id``, ``phase``, ``case``, ``subject``, ``arm``. Those of the phase
        ``reading`` are crossed: every case in every arm, once.
    readers
        Names; each gets an order of its own.
    sessions
        Number of reading sessions.
    duplicate_fraction
        Share of a reader's reads that are asked once more.
    seed
        Of the plan.
    salt
        The study's secret.
    attempts
        How often the qualification may be tried; each attempt has another order.

    Returns
    -------
    pandas.DataFrame
        :data:`medrestore.study.layout.READING_COLUMNS`, sorted by reader (as given), phase, attempt, session
        and position. Training (in the order of ``images``) and qualification are session 0; ``attempt`` is 0
        but for the qualification. Of two readings of one image the later one is the ``repeat``.

    Raises
    ------
    InputError
        When there is no reader or image, the images are not crossed, there are too few sessions, or the
        fraction is outside [0, 1).
    """
    require_in_range("duplicate_fraction", duplicate_fraction, 0, 1, include_high=False)
    missing = [column for column in IMAGE_COLUMNS if column not in images]
    if missing:
        raise InputError(f"images lack the column {', '.join(missing)}")
    if not len(readers) or not (images["phase"] == READING).any():
        raise InputError("a reading list needs a reader, and an image of the phase reading")
    scheme = _Scheme.of(images[images["phase"] == READING], sessions, duplicate_fraction)
    parts = []
    for reader in readers:
        parts += _preparation(images, reader, seed=seed, salt=salt, attempts=attempts)
        part = scheme.draw(generator(seed, "study", "order", salt, reader))
        part.insert(0, "reader", reader)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table["read_id"] = random_ids(len(table), seed=seed, salt=salt, stream="read_id")
    return table[list(READING_COLUMNS)]


def _preparation(
    images: pd.DataFrame, reader: str, *, seed: int, salt: str, attempts: int
) -> list[pd.DataFrame]:
    """Return a reader's training and each attempt of the qualification."""
    training = images.loc[images["phase"] == TRAINING, "image_id"].to_numpy()
    qualification = images.loc[images["phase"] == QUALIFICATION, "image_id"].to_numpy()
    parts = [(TRAINING, 0, training)]
    random = generator(seed, "study", "qualification", salt, reader)
    before: list[tuple[Any, ...]] = []
    for attempt in range(1, attempts + 1):
        order = random.permutation(qualification)
        # Few images have few orders; then an attempt differs at least from the one before it.
        while len(order) > 1 and tuple(order) in (
            before if attempt <= math.factorial(min(len(order), 8)) else before[-1:]
        ):
            order = random.permutation(qualification)
        before.append(tuple(order))
        parts.append((QUALIFICATION, attempt, order))
    return [
        pd.DataFrame(
            {
                "reader": reader,
                "phase": phase,
                "attempt": attempt,
                "session": 0,
                "position": np.arange(1, len(order) + 1),
                "image_id": order,
                "repeat": 0,
            }
        )
        for phase, attempt, order in parts
        if len(order)
    ]


class _Scheme:
    """The crossed images of a study, and how one reader's order of them is drawn.

    Reads are numbered by subject, then scan, then arm.
    """

    def __init__(
        self, image_ids: NDArray[Any], scans: NDArray[np.int64], arms: int, sessions: int, fraction: float
    ) -> None:
        self.image_ids, self.scans, self.arms, self.sessions = image_ids, scans, arms, sessions
        self.first = np.concatenate([[0], np.cumsum(scans * arms)])
        self.subject = np.repeat(np.arange(len(scans)), scans * arms)
        self.arm = np.arange(len(image_ids)) % arms
        self.repeats = duplicate_count(len(image_ids), fraction)
        self.most_repeats = np.array([_most_repeats(int(n) * arms, fraction) for n in scans], dtype=np.int64)

    @classmethod
    def of(cls, images: pd.DataFrame, sessions: int, fraction: float) -> _Scheme:
        """Check that every case has every arm once and that there are enough sessions."""
        arms = list(dict.fromkeys(images["arm"]))
        owners = images.drop_duplicates(["case", "subject"])
        if owners["case"].duplicated().any():
            case = owners.loc[owners["case"].duplicated(), "case"].iloc[0]
            raise InputError(f"case {case} belongs to more than one subject")
        if images.duplicated(["case", "arm"]).any() or len(images) != len(owners) * len(arms):
            raise InputError(
                f"every case must have one image in each arm; got {len(images)} images of {len(owners)} "
                f"cases in {len(arms)} arms"
            )
        ranked = images.assign(arm=pd.Categorical(images["arm"], arms))
        for column in ("subject", "case"):
            ranked[column] = pd.Categorical(images[column], list(dict.fromkeys(images[column])))
        ranked = ranked.sort_values(["subject", "case", "arm"])
        scans = owners.groupby("subject", sort=False).size()
        most = int(scans.max())
        least = least_sessions(len(arms), scans=most, duplicate_fraction=fraction)
        if sessions < least:
            many = f", and a subject has up to {most} scans" if most > 1 else ""
            again = " and repeats" if fraction else ""
            raise InputError(
                f"sessions must be {least} or more, got {sessions}: {len(arms)} arms{again}{many}, and no "
                "subject may be seen twice in a session"
            )
        return cls(
            ranked["image_id"].to_numpy(), scans.to_numpy().astype(np.int64), len(arms), sessions, fraction
        )

    def draw(self, random: np.random.Generator) -> pd.DataFrame:
        """Draw the readings of one reader: image, session, position, repeat."""
        best, read, session = np.inf, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for _ in range(DRAWS):
            first = self._sessions_of_reads(random)
            again, again_in = self._repeats(random, first)
            spread = self._spread(np.concatenate([first, again_in]), again)
            if spread < best:
                best = spread
                read = np.concatenate([np.arange(len(self.image_ids)), again])
                session = np.concatenate([first, again_in])
            if best <= 1:
                break
        order = np.lexsort((random.random(len(read)), session))
        table = pd.DataFrame({"image_id": self.image_ids[read[order]], "session": session[order] + 1})
        table["phase"], table["attempt"] = READING, 0
        table["position"] = table.groupby("session").cumcount() + 1
        table["repeat"] = table["image_id"].duplicated().astype(int)
        return table

    def _spread(self, session: NDArray[np.int64], again: NDArray[np.int64]) -> float:
        """Return by how much one arm is more frequent than another, in a session or among the repeats."""
        counts = np.zeros((self.sessions + 1, self.arms), dtype=np.int64)
        np.add.at(counts, (session, np.concatenate([self.arm, self.arm[again]])), 1)
        np.add.at(counts[-1], self.arm[again], 1)
        return float(np.ptp(counts, axis=1).max())

    def _sessions_of_reads(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Draw the session of each read: whole blocks by shifted permutations, the other subjects singly."""
        sessions = np.empty(len(self.image_ids), dtype=np.int64)
        counts = np.zeros((self.sessions, self.arms), dtype=np.int64)
        left: list[int] = []
        for scans in np.unique(self.scans)[::-1]:
            subjects = random.permutation(np.flatnonzero(self.scans == scans))
            blocks = len(subjects) // self.sessions
            left += subjects[blocks * self.sessions :].tolist()
            subjects = subjects[: blocks * self.sessions].reshape(blocks, self.sessions)
            every = np.tile(np.arange(self.sessions), (blocks, 1))
            places = random.permuted(every, axis=1)[:, None, : scans * self.arms]
            rows = self.first[subjects][:, :, None] + np.arange(scans * self.arms)
            sessions[rows] = (places + np.arange(self.sessions)[:, None]) % self.sessions
            counts += blocks * scans
        for subject in left:
            rows = np.arange(self.first[subject], self.first[subject + 1])
            sessions[rows] = _even_sessions(counts, self.arm[rows], random)
            counts[sessions[rows], self.arm[rows]] += 1
        return sessions

    def _repeats(
        self, random: np.random.Generator, session: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw which reads are asked twice, and in which sessions."""
        free = np.ones((len(self.scans), self.sessions), dtype=bool)
        free[self.subject, session] = False
        given = np.zeros(len(self.scans), dtype=np.int64)
        places = np.zeros((self.repeats, 2), dtype=np.int64)
        load = np.zeros(self.sessions, dtype=np.int64)
        for place in places:
            able = free & (given < self.most_repeats)[:, None]
            open_sessions = np.where(able.any(axis=0), load, np.iinfo(np.int64).max)
            chosen = random.choice(np.flatnonzero(open_sessions == open_sessions.min()))
            share = np.where(able[:, chosen], given / self.scans, np.inf)
            subject = random.choice(np.flatnonzero(share == share.min()))
            place[:] = subject, chosen
            given[subject] += 1
            load[chosen] += 1
            free[subject, chosen] = False
        if not self.repeats:
            return places[:, 0], places[:, 1]
        originals = np.zeros((self.sessions, self.arms), dtype=np.int64)
        np.add.at(originals, (session, self.arm), 1)
        counts = _even_arms(originals, load, random)
        return self._reads_of(places, counts, random), places[:, 1]

    def _reads_of(
        self, places: NDArray[np.int64], counts: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        """Give each place of a repeat an arm and a scan, no read twice."""
        from scipy.optimize import linear_sum_assignment

        taken = np.zeros((len(self.scans), self.arms), dtype=np.int64)
        arms = np.empty(len(places), dtype=np.int64)
        for session in random.permutation(self.sessions):
            rows = np.flatnonzero(places[:, 1] == session)
            tokens = random.permutation(np.repeat(np.arange(self.arms), counts[session]))
            subjects = places[rows, 0]
            clash = taken[subjects][:, tokens] >= self.scans[subjects][:, None]
            if clash.any():
                tokens = tokens[linear_sum_assignment(clash)[1]]
            for subject, row, token in zip(subjects.tolist(), rows, tokens.tolist(), strict=True):
                arm = token
                if taken[subject, arm] >= self.scans[subject]:  # few subjects: balance gives way
                    arm = int(random.choice(np.flatnonzero(taken[subject] < self.scans[subject])))
                taken[subject, arm] += 1
                arms[row] = arm
        reads = np.empty(len(places), dtype=np.int64)
        scans_of: dict[tuple[int, int], list[int]] = {}
        for place, ((subject, _), arm) in enumerate(zip(places.tolist(), arms.tolist(), strict=True)):
            left = scans_of.setdefault((subject, arm), random.permutation(self.scans[subject]).tolist())
            reads[place] = self.first[subject] + left.pop() * self.arms + arm
        return reads


def _even_sessions(
    counts: NDArray[np.int64], arms: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return a session of its own for each read of a subject, where its arm is rarest.

    Parameters
    ----------
    counts : (sessions, arms)
        Reads that the sessions have already.
    arms : (reads,)
        Arm of each read of the subject.
    random
        Breaks ties.

    Returns
    -------
    (reads,) int64
    """
    from scipy.optimize import linear_sum_assignment

    # First the frequency of the arm; between sessions that are equal in it, the fewest reads; then chance.
    cost = (counts - counts.min())[:, arms].T * float(1 + counts.size)
    load = counts.sum(axis=1)
    cost += (load - load.min()) / (1 + np.ptp(load)) + 0.1 * random.random(cost.shape) / len(arms)
    sessions: NDArray[np.int64] = linear_sum_assignment(cost)[1]
    return sessions


def _even_arms(
    originals: NDArray[np.int64], load: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Return how many repeats of each arm each session gets.

    Minimizes the sum of squares of what a session holds of each arm, with repeats equally often of each arm
    over all sessions (within one): a transportation problem with convex costs, whose vertices are whole.

    Parameters
    ----------
    originals : (sessions, arms)
        Reads before repeats.
    load : (sessions,)
        Repeats of each session.
    random
        Breaks ties.

    Returns
    -------
    (sessions, arms) int64
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, kron, vstack

    sessions, arms = originals.shape
    spread = int(np.ptp(originals, axis=1).max())
    units = -(-int(load.max()) // arms) + spread + 1
    # The cost of the u-th repeat in a cell of x reads is (x + u + 1)^2 - (x + u)^2.
    cost = 2.0 * (originals[:, :, None] + np.arange(units)) + 1
    cost += random.random(cost.shape) / (1 + load.sum())  # less than any difference between two solutions
    rows = kron(np.eye(sessions), np.ones((1, arms * units)), format="csr")
    columns = csr_array(np.tile(np.repeat(np.eye(arms), units, axis=1), (1, sessions)))
    low, extra = divmod(int(load.sum()), arms)
    result = linprog(
        cost.ravel(),
        A_ub=vstack([columns, -columns]),
        b_ub=np.concatenate([np.full(arms, low + bool(extra)), np.full(arms, -low)]),
        A_eq=rows,
        b_eq=load,
        bounds=(0, 1),
        method="highs-ds",
    )
    whole = np.rint(result.x).astype(np.int64).reshape(sessions, arms, units)
    counts: NDArray[np.int64] = whole.sum(axis=2)
    return counts
