"""Compiles loops with numba: the one place that knows how, and what to do where it cannot cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """Compile at the first call, and keep the result on disk for the next process if possible.

    The loop releases the interpreter's lock, so that several threads run it at once.
    """
    return _compiled(loop, nogil=True)


def compiled_in_any_order(loop: Loop) -> Loop:
    """The same, where additions may be done in any order, which lets sums run on vectors."""
    return _compiled(loop, nogil=True, fastmath={"reassoc"})


def _compiled(loop: Loop, **options: Any) -> Loop:
    try:
        return cast(Loop, njit(cache=True, **options)(loop))
    except RuntimeError:  # neither the package's folder nor one of the user's can be written
        return cast(Loop, njit(**options)(loop))


def _prefetch(typing: Any, array: Any, index: Any) -> Any:
    signature = types.void(array, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
        call = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
        builder.call(call, [place, flag(0), flag(3), flag(1)])  # to read; to keep; data
        return context.get_dummy_value()

    return signature, generate


prefetch = cast(Callable[[Any, Any], None], intrinsic(_prefetch))
"""In compiled code: ask for `array[index]` to be brought near, without waiting for it."""
