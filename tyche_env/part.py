"""The base of a scenario's parts: frozen, hashable, and strict about its keys."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, model_validator

from traces.errors import did_you_mean


class Part(BaseModel):
    """A frozen part of a scenario that refuses unknown keys and suggests the right one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        if isinstance(value, Mapping):
            known = list(cls.model_fields)
            for key in value:
                if key not in known:
                    raise ValueError(f"unknown key {str(key)!r}; {did_you_mean(str(key), known)}")
        return value
