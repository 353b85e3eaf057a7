"""docs/ARCHITECTURE.md: its reading path can be read in an evening, and its map is the house's."""

from __future__ import annotations

import re

from tests.house.test_house import LIBRARY, ROOMS, ROOT

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
EVENING = PAGE.split("<!-- evening -->")[1].split("<!-- /evening -->")[0]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_evening_path_is_short() -> None:
    files = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", EVENING)
    lines = sum(len((LIBRARY / name).read_text().splitlines()) for name in files)
    assert 2500 < lines <= 3500


def test_the_map_names_every_room_and_no_other() -> None:
    assert re.findall(r"^\| `([a-z]+)/` \|", PAGE, re.MULTILINE) == list(ROOMS)


def test_every_file_that_a_page_names_exists() -> None:
    for text in (PAGE, CONTRIBUTING):
        for name in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", text):
            assert (LIBRARY / name).exists() or (ROOT / name).exists(), name
