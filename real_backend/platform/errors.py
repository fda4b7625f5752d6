"""Refusals of the REST interface: an HTTP status and OpenWhisk's words."""

from __future__ import annotations


class ApiError(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        message: The field ``error`` of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def missing(what: str = "") -> ApiError:
    """404, as OpenWhisk says it."""
    return ApiError(404, f"The requested resource '{what}' does not exist." if what else _MISSING)


_MISSING = "The requested resource does not exist."
