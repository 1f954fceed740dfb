"""What all kinds of image share knows none of them: their words stand in the folders of ``domains`` alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import medrestore

PACKAGE = Path(medrestore.__file__).parent
SHARED = "data methods solvers inference evaluation engines experiments tracking"
"""Folders; beside them the modules of the package's root."""

WORDS = re.compile(
    r"amyloid|suvr|lesion|contrast\b|slide(?!r)|(?<!percen)(?<!quan)(?<!quar)tile|stain|nuclei", re.IGNORECASE
)
EXAMPLE = re.compile(r'^ *>>> .*\n(?:(?! *""").*\S.*\n)*', re.MULTILINE)


def words_in(text: str) -> list[str]:
    """Return the lines of a file that speak of a kind of image, outside of its docstrings' examples."""
    return [line.strip() for line in EXAMPLE.sub("", text).splitlines() if WORDS.search(line)]


@pytest.mark.parametrize("room", ["", *SHARED.split()])
def test_shared_rooms_know_no_kind_of_image(room):
    paths = (PACKAGE / room).rglob("*") if room else PACKAGE.glob("*.py")
    files = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
    assert files
    found = {path: words_in(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_word_of_a_kind_of_image_is_found():
    text = '''
    """Return the name of a Tile.

    >>> named("stain")
    'stain'
    """
    suvr_bias = low_contrast = np.tile(1)  # nuclei
    percentile = quantile = quartile = contrasts = slider = 1
    '''
    assert words_in(text) == [
        '"""Return the name of a Tile.',
        "suvr_bias = low_contrast = np.tile(1)  # nuclei",
    ]
