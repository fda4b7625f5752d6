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


def malformed(reason: str) -> ApiError:
    """400 for a body that is not what it should be."""
    return ApiError(400, f"The request content was malformed:\n{reason}")


def missing() -> ApiError:
    """404, as OpenWhisk says it."""
    return ApiError(404, "The requested resource does not exist.")


def nowhere() -> ApiError:
    """404 for a path or a method that there is not."""
    return ApiError(404, "The requested resource could not be found.")


def is_there() -> ApiError:
    """409 for a name that is taken."""
    return ApiError(409, "resource already exists")
