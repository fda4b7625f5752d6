"""The shipped recipes, one YAML file each, and how any is read."""

from __future__ import annotations

from pathlib import Path

import yaml

from agents.policies.recipe import Recipe, RecipeError, as_recipe

_FOLDER = Path(__file__).parent


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by its name, or any by the path of its YAML file.

    Raises:
        RecipeError: names the file, the field and what would be right.
    """
    path = _FOLDER / f"{name_or_path}.yaml" if str(name_or_path) in recipe_names() else Path(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(recipe_names())
        raise RecipeError(f"recipe {name_or_path}: cannot be read ({error.strerror}); shipped are {known}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
    return as_recipe(content, str(path))
