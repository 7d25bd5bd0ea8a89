"""Trained models side by side on equal terms: the verb `limner compare` and its page.

`limner.compare(…)`, the verb, can be called although `limner.compare` is this package as well.

Python binds a package to its name in the parent package when it is imported, which would hide a function called
`compare` there. So the package itself is callable, with the verb's arguments, whatever was imported first.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    def __call__(self, *runs_and_more: Any, **named: Any) -> Any:
        """Compare runs: see `limner.compare.verb.compare`."""
        from limner.compare.verb import compare

        return compare(*runs_and_more, **named)

    @property
    def __signature__(self) -> Any:
        import inspect

        from limner.compare.verb import compare

        return inspect.signature(compare)


sys.modules[__name__].__class__ = _CallablePackage
