"""How a user's ``predict`` is called: what its signature takes is decided once, when the policy is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

OFFERED = ("state", "episode_start", "deterministic")
"""What there is beside the observation, in the order of stable-baselines3."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """What a ``predict`` takes beside the observation, which comes first.

    Attributes:
        by_place: names of :data:`OFFERED` in order.
        by_name: its own parameter's name, and which of :data:`OFFERED` that gets.
    """

    by_place: tuple[str, ...] = OFFERED
    by_name: tuple[tuple[str, str], ...] = ()

    def arguments(self, offered: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments behind the observation, by place and by name."""
        return [offered[each] for each in self.by_place], {name: offered[each] for name, each in self.by_name}


def form_of(predict: Callable[..., Any]) -> CallForm | None:
    """How to call a ``predict``; None if its signature cannot be called.

    A parameter of the name of one of :data:`OFFERED`, with or without underscores before it, gets that.  Others that
    must be given get the next one that is left, so ``predict(observation, memory)`` gets the state.  Others that need
    not be given are left alone, but for a second one whose default is None, and for all where there are exactly as many
    as there is to give.
    """
    try:
        parameters = list(inspect.signature(predict).parameters.values())
    except (TypeError, ValueError):  # compiled code may tell nothing
        return CallForm()
    placed = [each for each in parameters if each.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    rest = next((each for each in parameters if each.kind == Parameter.VAR_POSITIONAL), None)
    if not placed:
        return None if rest is None or _unknown_keyword(parameters) else CallForm()
    meant = _meant(placed[1:])
    if meant is None or _unknown_keyword(parameters):
        return None
    by_place: list[str] = []
    by_name: list[tuple[str, str]] = []
    for at, (parameter, offer) in enumerate(zip(placed[1:], meant, strict=True)):
        if offer is None:
            continue
        if parameter.kind == Parameter.POSITIONAL_OR_KEYWORD:
            by_name.append((parameter.name, offer))
        elif at == len(by_place):
            by_place.append(offer)
    if rest is not None and len(placed) == 1:
        by_place = list(OFFERED)
    taken = {*by_place, *(offer for _, offer in by_name)}
    for parameter in parameters:
        if parameter.kind == Parameter.KEYWORD_ONLY and parameter.name in OFFERED and parameter.name not in taken:
            by_name.append((parameter.name, parameter.name))
            taken.add(parameter.name)
    if any(each.kind == Parameter.VAR_KEYWORD for each in parameters):
        by_name += [(offer, offer) for offer in OFFERED if offer not in taken]
    return CallForm(tuple(by_place), tuple(by_name))


def _meant(parameters: list[Parameter]) -> list[str | None] | None:
    """What each of the parameters behind the observation gets; None if one that must be given gets nothing."""
    meant = [each.name.lstrip("_") if each.name.lstrip("_") in OFFERED else None for each in parameters]
    left = [offer for offer in OFFERED if offer not in meant]
    for at, parameter in enumerate(parameters):
        if meant[at] is not None:
            continue
        optional = parameter.default is not Parameter.empty
        if optional and len(parameters) != len(OFFERED) and (at > 0 or parameter.default is not None):
            continue
        if left:
            meant[at] = left.pop(0)
        elif not optional:
            return None
    return meant


def _unknown_keyword(parameters: list[Parameter]) -> bool:
    """Whether one must be given by its name, and nobody knows what."""
    return any(
        each.kind == Parameter.KEYWORD_ONLY and each.default is Parameter.empty and each.name not in OFFERED
        for each in parameters
    )
