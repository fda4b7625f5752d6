"""Tests, in folders that mirror the packages; a package itself, since other distributions ship a `tests` too."""
