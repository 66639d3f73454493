# SPDX-License-Identifier: Apache-2.0
"""What qkernels raises.

Whatever the library detects is a `QKernelsError`, and at the same time a ValueError (a shape, a
value, a combination) or a TypeError (a kind of object, a dtype), so that callers may catch either.
"""

from __future__ import annotations

from qkernels import _core


class QKernelsError(Exception):
    """Base of every error that qkernels detects; always a ValueError or a TypeError as well.

    >>> import qkernels as qk
    >>> try:
    ...     qk.QParams(-1.0, 0)
    ... except qk.QKernelsError as error:
    ...     isinstance(error, ValueError)
    True
    """


class QKernelsValueError(QKernelsError, ValueError):
    """A shape, a value or a combination of arguments that cannot be."""


class QKernelsTypeError(QKernelsError, TypeError):
    """An object of the wrong kind, or an array of the wrong dtype."""


def from_core(error: _core.CoreError, where: str) -> QKernelsError:
    """The public form of a core failure; `where` names the call and its arguments.

    Every code of the core is about values: kinds and dtypes are settled before it is called.
    """
    _, message = error.args
    return QKernelsValueError(f"{where}: {message}")
