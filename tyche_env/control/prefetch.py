"""Asking the processor for what the next events will look at, while the present one is handled.

Where the tables are larger than the processor's caches, an event mostly waits for rows that nobody has looked at for
long.  Which rows the next arrival and the next completion begin with is known before; nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types as numba_types
from numba.core import cgutils as numba_cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

# numba does not type its extension interface
types: Any = numba_types
cgutils: Any = numba_cgutils

_LINE = 64
_READ, _KEEP, _DATA = 0, 3, 1
"""What llvm.prefetch is told: for reading, into all caches, data."""


def _prefetch(typing: Any, table: Any, row: Any, lines: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of :data:`prefetch`, in numba's form for intrinsics."""
    count = lines.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        step = cgutils.unpack_tuple(builder, array.strides)[0]
        word = step.type
        at = builder.add(builder.ptrtoint(array.data, word), builder.mul(arguments[1], step))
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        take = builder.module.declare_intrinsic("llvm.prefetch", [byte], form)
        for line in range(count):
            place = builder.inttoptr(builder.add(at, word(line * _LINE)), byte)
            builder.call(take, [place, flag(_READ), flag(_KEEP), flag(_DATA)])
        return context.get_dummy_value()

    return types.void(table, types.intp, lines), generate


prefetch = cast(Callable[[NDArray[Any], int, int], None], intrinsic(prefer_literal=True)(_prefetch))
"""Bring the first cache lines, so many as the last argument says, of a row of a table near; it need not be there."""
