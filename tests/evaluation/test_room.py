"""What all kinds of image share knows none of them by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import medrestore

KINDS = re.compile(
    r"amyloid|\bsuvr|\blesion|\bcontrasts?\b|\bslides?\b|\btiles?\b|\bstain|\bnuclei",
    re.IGNORECASE,
)
FILES = sorted((Path(medrestore.__file__).parent / "evaluation").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shared_room_names_no_kind_of_image(path):
    assert KINDS.findall(path.read_text(encoding="utf-8")) == []
