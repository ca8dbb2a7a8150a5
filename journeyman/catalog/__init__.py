"""Every registered part, as `journeyman catalog` lists it and docs/catalog.md prints it."""

from journeyman.catalog.entries import TESTS, Entry, catalog
from journeyman.catalog.page import page

__all__ = ["TESTS", "Entry", "catalog", "page"]
