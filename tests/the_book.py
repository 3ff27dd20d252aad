"""The book of this checkout, read once in each process."""

from pathlib import Path

from tools.labels import Book

BOOK = Book(Path(__file__).resolve().parents[1])
