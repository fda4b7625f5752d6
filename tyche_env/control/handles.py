"""How Python hands the tables to compiled code: addresses, so that a call costs a tenth of a microsecond.

Unboxing the fifty arrays of a :class:`ClusterState` at each call would cost five microseconds.  Instead the host passes
one small array with the address and shape of each table.  Within compiled code the state is the address of that array,
one word however many functions hand it on; a table is made from its row where it is used.  The host keeps the arrays
alive, and makes new handles when it replaces one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import extending as numba_extending
from numba import types as numba_types
from numba.core import cgutils as numba_cgutils
from numba.core.typing.templates import AttributeTemplate as NumbaAttributeTemplate
from numba.np import arrayobj as numba_arrayobj
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from tyche_env.state import CLUSTER_DTYPE, FIELDS, ClusterState

# numba does not type its extension interface
extending: Any = numba_extending
types: Any = numba_types
cgutils: Any = numba_cgutils
AttributeTemplate: Any = NumbaAttributeTemplate
arrayobj: Any = numba_arrayobj


class _TableType(types.Array):  # type: ignore[misc]
    """Numba's type of a table: an array that is never indexed from its end.

    For arrays, each index costs the question whether it is negative, a tenth of all instructions of the event loop.
    """

    def __init__(self, dtype: Any, ndim: int) -> None:
        super().__init__(dtype, ndim, "C", name=f"table({dtype}, {ndim})")


extending.register_model(_TableType)(extending.models.ArrayModel)


def _from_start(context: Any, builder: Any, index_type: Any, index: Any) -> tuple[Any, Any]:
    """An index, or a tuple of them, as numbers without a sign: numba counts these from the start without asking."""
    if not isinstance(index_type, types.BaseTuple):
        return types.uintp, context.cast(builder, index, index_type, types.intp)
    if not all(isinstance(part, types.Integer) for part in index_type.types):
        return index_type, index
    whole = types.UniTuple(types.intp, len(index_type))
    return types.UniTuple(types.uintp, len(index_type)), context.cast(builder, index, index_type, whole)


def _get(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Code that reads one entry of a table."""
    table_type, index_type = signature.args
    unsigned, index = _from_start(context, builder, index_type, arguments[1])
    read = arrayobj.getitem_array_tuple if isinstance(unsigned, types.BaseTuple) else arrayobj.getitem_arraynd_intp
    return read(context, builder, signature.return_type(table_type, unsigned), (arguments[0], index))


def _set(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Code that writes one entry of a table."""
    table_type, index_type, value_type = signature.args
    unsigned, index = _from_start(context, builder, index_type, arguments[1])
    form = signature.return_type(table_type, unsigned, value_type)
    return arrayobj.setitem_array(context, builder, form, (arguments[0], index, arguments[2]))


for _index in (types.Integer, types.BaseTuple):
    extending.lower_builtin(operator.getitem, _TableType, _index)(_get)
    extending.lower_builtin(operator.setitem, _TableType, _index, types.Any)(_set)

_ARRAYS = {name: _TableType(from_dtype(dtype), ndim) for name, (dtype, ndim) in FIELDS.items()}
_ROWS = {name: row for row, name in enumerate(FIELDS)}
_WORDS = 3
_HANDLES_AT = CLUSTER_DTYPE.fields["handles"][1]  # type: ignore[index]


class _StateType(types.Type):  # type: ignore[misc]
    """Numba's type of the state: what has the tables of :class:`ClusterState` as attributes."""


_STATE = _StateType(name="ClusterState")


@extending.register_model(_StateType)
class _StateModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    """One word: the address of the handles."""

    def __init__(self, manager: Any, state_type: Any) -> None:
        super().__init__(manager, state_type, cgutils.intp_t)


@extending.infer_getattr
class _Tables(AttributeTemplate):  # type: ignore[misc]
    """Which attributes there are."""

    key = _StateType

    def generic_resolve(self, state: Any, name: str) -> Any:
        """The type of a table, or None."""
        return _ARRAYS.get(name)


def _table(context: Any, builder: Any, state: Any, address: Any, name: str) -> Any:
    """Code that makes a table from its row of the handles."""
    array_type = _ARRAYS[name]
    word = address.type
    data = builder.inttoptr(address, word.as_pointer())
    always = builder.module.add_metadata([])

    def read(at: int) -> Any:
        value = builder.load(builder.gep(data, [word(_WORDS * _ROWS[name] + at)]))
        value.set_metadata("invariant.load", always)  # handles stay as they are while compiled code runs
        return value

    start, first, second = (read(at) for at in range(_WORDS))
    array = context.make_array(array_type)(context, builder)
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    array.data = builder.inttoptr(start, array.data.type)
    array.itemsize = item
    array.nitems = builder.mul(first, second)
    shape, strides = [first], [item]
    if array_type.ndim == 2:
        shape, strides = [first, second], [builder.mul(second, item), item]
    array.shape = cgutils.pack_array(builder, shape)
    array.strides = cgutils.pack_array(builder, strides)
    array.parent = context.get_constant_null(types.pyobject)
    array.meminfo = context.get_constant_null(types.MemInfoPointer(types.voidptr))
    return array._getvalue()


extending.lower_getattr_generic(_StateType)(_table)


def handles_of(state: ClusterState, spent: tuple[ClusterState, NDArray[np.int64]] | None = None) -> NDArray[np.int64]:
    """Address and shape of every table, (T, 3) int64.

    Args:
        state: the tables.
        spent: other tables and their handles; of a table that is in both, nothing is looked at.

    Raises:
        TypeError: a table has not the form that compiled code takes for granted.
    """
    handles = np.ones((len(FIELDS), _WORDS), np.int64)
    if spent is not None:
        before, known = spent
        handles[:] = known
    for row, (name, (dtype, ndim)) in enumerate(FIELDS.items()):
        table = getattr(state, name)
        if spent is not None:
            if table is getattr(before, name):
                continue
            handles[row] = 1
        alike = table.dtype is dtype or table.dtype == dtype  # comparing fifty columns takes longer than all the rest
        if not alike or table.ndim != ndim or not table.flags.c_contiguous:
            raise TypeError(f"state.{name}: needs a contiguous array of {ndim} dimensions of {dtype}")
        handles[row, 0] = table.ctypes.data
        handles[row, 1 : 1 + ndim] = table.shape
    return handles


def _open_state(typing: Any, handles: Any) -> tuple[Any, Callable[..., Any]]:
    """Type and code of :data:`open_state` and :data:`open_state_at`, in numba's form for intrinsics."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not isinstance(signature.args[0], types.Array):
            return arguments[0]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.ptrtoint(data, cgutils.intp_t)
        # for rules that are called by address, which open the tables again (control.hooks)
        cluster = builder.load(builder.gep(data, [context.get_constant(types.intp, 0)]))
        place = builder.add(cluster, context.get_constant(types.int64, _HANDLES_AT))
        builder.store(address, builder.inttoptr(place, cgutils.intp_t.as_pointer()))
        return address

    return _STATE(handles), generate


open_state = cast(Callable[[NDArray[np.int64]], ClusterState], extending.intrinsic(_open_state))
"""Compiled code's view of the tables behind handles; nothing is copied or counted."""

open_state_at = cast(Callable[[int], ClusterState], extending.intrinsic(_open_state))
"""The same from the address of the handles."""
