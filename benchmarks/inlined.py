"""Which function an instruction of the kernels was inlined from, by the debugging information that numba leaves.

All kernels are one piece of machine code, in which everything is inlined.  Compiled with ``NUMBA_DEBUGINFO=1`` it comes
with the tree of what was inlined into what, and the source line of each instruction.
"""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile

PASSED_OVER = ("control/handles.py", "control/quotient.py", "/numba/")
"""Parts of the paths of what serves everybody, such as reaching a table or dividing: time there is the caller's."""


class Place(NamedTuple):
    """Where an instruction comes from."""

    file: str
    function: str
    line: int


@dataclass(frozen=True, slots=True)
class Scope:
    """A function, or one inlined into it: the code it has, where it is from, what is inlined into it."""

    ranges: list[tuple[int, int]]
    file: str
    function: str
    called_at: int
    within: list[Scope]


class Kernel(NamedTuple):
    """Machine code of compiled functions: where it lies in memory, and its object file."""

    start: int
    end: int
    elf: bytes


def keep_loaded() -> list[tuple[Any, bytes]]:
    """A list that gets every library of machine code that numba loads from its cache, and its object file."""
    from numba.core.codegen import CPUCodeLibrary

    loaded: list[tuple[Any, bytes]] = []
    library_type: Any = CPUCodeLibrary
    original = library_type._set_compiled_object

    def keep(library: Any, elf: bytes) -> None:
        loaded.append((library, bytes(elf)))
        original(library, elf)

    library_type._set_compiled_object = keep
    return loaded


def kernels_of(loaded: list[tuple[Any, bytes]]) -> list[Kernel]:
    """Where the machine code of each library lies."""
    kernels = []
    for library, elf in loaded:
        file: Any = ELFFile(io.BytesIO(elf))
        symbols = file.get_section_by_name(".symtab").iter_symbols()
        is_code = (s for s in symbols if s["st_info"]["type"] == "STT_FUNC" and s["st_shndx"] != "SHN_UNDEF")
        if (symbol := next(is_code, None)) is not None:
            start = library.get_pointer_to_function(symbol.name) - symbol["st_value"]
            kernels.append(Kernel(start, start + file.get_section(symbol["st_shndx"]).data_size, elf))
    return kernels


def place_of(kernels: list[Kernel], address: int) -> Place | None:
    """The innermost function that an instruction was inlined from, but for those passed over; None outside."""
    for kernel in kernels:
        if kernel.start <= address < kernel.end:
            chain = chain_of(kernel.elf, address - kernel.start)
            return next((place for place in chain if not any(part in place.file for part in PASSED_OVER)), None)
    return None


def chain_of(elf: bytes, offset: int) -> list[Place]:
    """Where the instruction at an offset comes from: the innermost function first, then who called it."""
    scopes, addresses, lines = debugging_information(elf)
    line = lines[max(0, bisect.bisect_right(addresses, offset) - 1)]
    found: list[Scope] = []
    while scope := next((s for s in scopes if any(low <= offset < high for low, high in s.ranges)), None):
        found.append(scope)
        scopes = scope.within
    chain = []
    for scope in reversed(found):
        chain.append(Place(scope.file, scope.function, line))
        line = scope.called_at
    return chain


@cache
def debugging_information(elf: bytes) -> tuple[list[Scope], list[int], list[int]]:
    """All functions of an object file, each with those inlined into it; and the line that begins at each address."""
    plain = elf.replace(b".eh_frame", b".no_frame")  # of no use here, and its relocations are not known to the reader
    information: Any = ELFFile(io.BytesIO(plain)).get_dwarf_info()
    ranges = information.range_lists()

    @cache
    def files_of(unit: Any) -> list[str]:
        """Paths by number, from 1 on."""
        header = information.line_program_for_CU(unit).header
        at = unit.get_top_DIE().attributes["DW_AT_comp_dir"].value
        folders = [folder.decode() for folder in (at, *header["include_directory"])]
        return ["", *(f"{folders[file.dir_index]}/{file.name.decode()}" for file in header["file_entry"])]

    def scopes_in(entry: Any) -> Iterator[Scope]:
        for child in entry.iter_children():
            within = list(scopes_in(child))
            covered = ranges_of(child, ranges)
            if child.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine") and covered:
                origin = child
                if "DW_AT_abstract_origin" in child.attributes:
                    origin = child.get_DIE_from_attribute("DW_AT_abstract_origin")
                name = origin.attributes["DW_AT_name"].value.decode().partition("[")[0].rpartition("::")[2]
                file = files_of(origin.cu)[origin.attributes["DW_AT_decl_file"].value]
                line = child.attributes.get("DW_AT_call_line")
                yield Scope(covered, file, name, line.value if line else 0, within)
            else:
                yield from within

    scopes: list[Scope] = []
    lines: list[tuple[int, int]] = []
    for unit in information.iter_CUs():
        program = information.line_program_for_CU(unit)
        lines += [(entry.state.address, entry.state.line) for entry in program.get_entries() if entry.state]
        scopes += scopes_in(unit.get_top_DIE())
    lines.sort()
    return scopes, [address for address, _ in lines], [line for _, line in lines]


def ranges_of(entry: Any, lists: Any) -> list[tuple[int, int]]:
    """Offsets that an entry of the debugging information covers."""
    if "DW_AT_low_pc" in entry.attributes and "DW_AT_high_pc" in entry.attributes:
        low, high = entry.attributes["DW_AT_low_pc"].value, entry.attributes["DW_AT_high_pc"]
        return [(low, high.value if high.form == "DW_FORM_addr" else low + high.value)]
    if "DW_AT_ranges" not in entry.attributes:
        return []
    base = entry.cu.get_top_DIE().attributes.get("DW_AT_low_pc")
    start = base.value if base else 0
    found = lists.get_range_list_at_offset(entry.attributes["DW_AT_ranges"].value, entry.cu)
    return [(start + part.begin_offset, start + part.end_offset) for part in found]
