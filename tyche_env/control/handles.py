"""How Python hands the tables to compiled code: addresses, so that a call costs a tenth of a microsecond.

Unboxing the forty arrays of a :class:`ClusterState` at each call would cost five microseconds.  Instead the host passes
one small array with the address and shape of each table, and compiled code rebuilds the tuple from it.  The host keeps
the arrays alive, and makes new handles when it replaces one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import types as numba_types
from numba.core import cgutils as numba_cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from tyche_env.state import CLUSTER_DTYPE, FIELDS, ClusterState

# numba does not type its extension interface
types: Any = numba_types
cgutils: Any = numba_cgutils

_ARRAYS = [types.Array(from_dtype(dtype), ndim, "C") for dtype, ndim in FIELDS.values()]
_STATE = types.NamedTuple(_ARRAYS, ClusterState)
_WORDS = 3
_HANDLES_AT = CLUSTER_DTYPE.fields["handles"][1]  # type: ignore[index]


def handles_of(state: ClusterState) -> NDArray[np.int64]:
    """Address and shape of every table, (T, 3) int64.

    Raises:
        TypeError: a table has not the form that compiled code takes for granted.
    """
    handles = np.ones((len(FIELDS), _WORDS), np.int64)
    for row, (name, (dtype, ndim)) in enumerate(FIELDS.items()):
        table = getattr(state, name)
        if table.dtype != dtype or table.ndim != ndim or not table.flags.c_contiguous:
            raise TypeError(f"state.{name}: needs a contiguous array of {ndim} dimensions of {dtype}")
        handles[row, 0] = table.ctypes.data
        handles[row, 1 : 1 + ndim] = table.shape
    return handles


def _open_state(typing: Any, handles: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of :data:`open_state` and :data:`open_state_at`, in numba's form for intrinsics."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word_type = context.get_value_type(types.int64)
        if isinstance(signature.args[0], types.Array):
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            # for rules that are called by address, which open the tables again (control.hooks)
            cluster = builder.load(builder.gep(data, [context.get_constant(types.intp, 0)]))
            place = builder.add(cluster, context.get_constant(types.int64, _HANDLES_AT))
            builder.store(builder.ptrtoint(data, word_type), builder.inttoptr(place, word_type.as_pointer()))
        else:
            data = builder.inttoptr(arguments[0], word_type.as_pointer())
        tables = []
        for row, array_type in enumerate(_ARRAYS):
            address, first, second = (
                builder.load(builder.gep(data, [context.get_constant(types.intp, _WORDS * row + word)]))
                for word in range(_WORDS)
            )
            array = context.make_array(array_type)(context, builder)
            size = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
            item = context.get_constant(types.intp, size)
            array.data = builder.inttoptr(address, array.data.type)
            array.itemsize = item
            array.nitems = builder.mul(first, second)
            shape, strides = [first], [item]
            if array_type.ndim == 2:
                shape, strides = [first, second], [builder.mul(second, item), item]
            array.shape = cgutils.pack_array(builder, shape)
            array.strides = cgutils.pack_array(builder, strides)
            array.parent = context.get_constant_null(types.pyobject)
            array.meminfo = context.get_constant_null(types.MemInfoPointer(types.voidptr))
            tables.append(array._getvalue())
        return context.make_tuple(builder, signature.return_type, tables)

    return _STATE(handles), generate


open_state = cast(Callable[[NDArray[np.int64]], ClusterState], intrinsic(_open_state))
"""Compiled code's view of the tables behind handles; nothing is copied or counted."""

open_state_at = cast(Callable[[int], ClusterState], intrinsic(_open_state))
"""The same from the address of the handles."""
