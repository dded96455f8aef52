"""The page of a run with more images than a browser shows with ease."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from PIL import Image

from ilo_pl.evaluation import run_page
from ilo_pl.io.folder import RunFolder


def test_pictures_are_of_the_first_images_and_numbers_of_all(tmp_path: Path) -> None:
    ids = ("a", "b", "c")
    (tmp_path / "reconstructions").mkdir()
    for image_id in ids:
        Image.new("RGB", (8, 8)).save(tmp_path / "reconstructions" / f"{image_id}.png")
    (tmp_path / "metrics.csv").write_text("id,psnr\na,20\nb,30\nc,40\n")
    with patch.object(run_page, "MOST_CASES", 2):
        page = run_page.run_page(RunFolder(tmp_path), run_page.About("title", ids=ids))
    assert [case.title for case in page.cases] == ["a", "b"]
    assert [row[0].link for row in page.table.rows] == ["#image-1", "#image-2", None]
    assert any("30" in value for _, value in page.facts)  # the mean of all three
    assert page.notes == ("Pictures are of the first 2 of 3 images.",)
