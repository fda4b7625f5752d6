"""One of everything that tyche-env lets other packages add."""
