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


def missing() -> ApiError:
    """404, as OpenWhisk says it."""
    return ApiError(404, "The requested resource does not exist.")
