"""The book on paper: several pages become one PDF, with links inside of it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bookkit.site import pdf

PAGE = """<html><head><title>{name}</title></head><body><article class="bd-article"><h1 id="{name}">{name}</h1>
<a href="{other}">there</a> <a href="https://example.org">out</a> <a href="missing.html">nowhere</a>
<details class="book-code"><summary>code</summary><p id="code">code</p></details><img src="{image}" alt="a dot">
</article></body></html>"""
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write(folder: Path) -> None:
    """In a thread of its own, since the browser of the other tests is open in this one."""
    with ThreadPoolExecutor() as pool:
        pool.submit(pdf.write, folder, folder, folder / "book.pdf").result()


def a_site(folder: Path, image: str) -> None:
    (folder / "notebooks").mkdir()
    (folder / "_toc.yml").write_text(
        "root: index\nparts: [{chapters: [{file: notebooks/a}, {file: notebooks/api}]}]\n"
    )
    (folder / "index.html").write_text(
        PAGE.format(name="index", other="notebooks/a.html#a", image=image)
    )
    for name in ("a", "api"):
        other = "../index.html"
        (folder / "notebooks" / f"{name}.html").write_text(
            PAGE.format(name=name, other=other, image=image)
        )


def test_pages_become_one_document_with_links_inside(tmp_path: Path) -> None:
    a_site(tmp_path, f"data:image/png;base64,{DOT}")
    write(tmp_path)
    document = (tmp_path / "book.pdf").read_bytes()
    assert document.startswith(b"%PDF")
    assert (
        len(re.findall(rb"/Type /Page\b", document)) == 2
    )  # the reference of the package stays on the screen
    assert re.findall(rb"/URI \((.*?)\)", document) == [b"https://example.org/"] * 2
    inside = re.findall(rb"/Dest /(\S+)", document)
    assert inside == [b"notebooks-a--a", b"index--top"] and b"file:" not in document


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    a_site(tmp_path, "missing.png")
    with pytest.raises(RuntimeError, match="pictures do not load: .*missing.png"):
        write(tmp_path)


def test_without_a_book_or_a_browser_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="no built book in .*: run make book first"):
        pdf.write(tmp_path, tmp_path, tmp_path / "book.pdf")
    monkeypatch.setattr(pdf, "find_browser", lambda: None)
    with pytest.raises(FileNotFoundError, match="no browser: install Chromium"):
        pdf.write(tmp_path, tmp_path, tmp_path / "book.pdf")


def test_the_order_of_the_contents(tmp_path: Path) -> None:
    chapters = "[{file: a, sections: [{file: b}]}, {file: c}]"
    (tmp_path / "_toc.yml").write_text(
        f"root: r\nparts: [{{numbered: true, chapters: {chapters}}}]\n"
    )
    assert list(pdf.contents(tmp_path)) == [("r", None), ("a", 1), ("b", None), ("c", 2)]
