"""The pictures of the packages in ``architecture.md``, drawn from the contracts that hold their imports.

``python docs/layers.py`` writes them to ``docs/images``: a row a layer, which imports from the rows below it only.
What a module is for is its own first sentence, shown where the pointer rests on it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
PACKAGES = ("agents", "real_backend", "traces", "tyche_env")
WIDTH, ROW, GAP, CHARACTER = 760, 34, 8, 7.4
STYLE = (
    "text{font:12px ui-monospace,monospace;fill:#23272f}rect{fill:#fff;stroke:#8b93a1}.band{fill:#eef1f5;stroke:none}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7ec}rect{fill:#3a404b;stroke:#6f7785}.band{fill:#22262d}}"
)


def layers_of(name: str) -> list[list[str]]:
    """The modules of each layer of a contract, the highest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["name"] == name)
    return [re.split(r" [|:] ", layer) for layer in contract["layers"]]


def purpose_of(module: str) -> str:
    """The first sentence of a module's docstring."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def picture(package: str) -> str:
    """The layers of a package as SVG."""
    parts, y = [], GAP
    for layer in layers_of(package):
        x: float = 2 * GAP
        top, boxes = y, []
        for name in layer:
            width = CHARACTER * len(name) + 2 * GAP
            if x + width > WIDTH - 2 * GAP:
                x, y = 2 * GAP, y + ROW - GAP
            boxes.append(
                f"<g><title>{escape(purpose_of(f'{package}.{name}'))}</title>"
                f'<rect x="{x:g}" y="{y + 6}" width="{width:g}" height="{ROW - 2 * GAP + 4}" rx="4"/>'
                f'<text x="{x + GAP:g}" y="{y + 22}">{escape(name)}</text></g>'
            )
            x += width + GAP
        band = f'<rect class="band" x="{GAP}" y="{top}" width="{WIDTH - 2 * GAP}" height="{y + ROW - top}" rx="6"/>'
        parts += [band, *boxes]
        y += ROW + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img" '
        f'aria-label="Layers of {package}: a row imports from the rows below it only"><style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Draw all."""
    for package in PACKAGES:
        (IMAGES / f"layers-{package}.svg").write_text(picture(package), encoding="utf-8")


if __name__ == "__main__":
    main()
