"""The book of this checkout, read once in each process."""

from pathlib import Path

from bookkit.authoring.labels import Book

BOOK = Book(Path(__file__).resolve().parents[1])
