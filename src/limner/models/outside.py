"""Models that are not part of limner: an installed package's entry point, or a class in a Python file.

Importing a model runs its code. A package is imported because somebody installed it; a file only because somebody named
it, on the command line or in Python. What a run's folder says is shown in messages and never imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import re
import shlex
import sys
import traceback
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from limner.errors import LimnerError
from limner.models.base import Model

ENTRY_POINT_GROUP = "limner.models"
_FILE_MODULE = "limner_model_file_"
"""first part of the module name under which a model's file is imported"""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def is_file_spec(text: str) -> bool:
    """Return whether the text has the form of FILE.py:CLASS (or of a file whose class was forgotten)."""
    return text.endswith(".py") or text.rpartition(":")[0].endswith(".py")


def import_model_file(spec: str) -> type[Model]:
    """Run a Python file and return the model class in it.

    Args:
        spec: FILE.py:CLASS. The file may import modules that lie beside it.

    Raises:
        LimnerError: there is no such file or class, the file's code raises an error, or the class is not a model.
    """
    text, _, class_name = (spec, "", "") if spec.endswith(".py") else spec.rpartition(":")
    path = Path(text)
    if not path.is_file():
        raise LimnerError(f"{spec}: no file {path}; a model outside limner is named path/to/file.py:CLASS")
    if not class_name:
        raise LimnerError(f"{spec}: which class of it? name it after a colon: {path}:CLASS")
    module = _import_file(path.resolve())
    found = getattr(module, class_name, None)
    if found is None:
        models = [n for n, value in vars(module).items() if _is_model(value) and value.__module__ == module.__name__]
        there = f"its models are {', '.join(models)}" if models else "it defines no subclass of limner.models.Model"
        raise LimnerError(f"{spec}: the file has no {class_name!r}; {there}")
    return check_model_class(found, spec)


@cache
def _import_file(path: Path) -> Any:
    """Import a file once, under a module name that no other file has; its folder is searched last for what it imports.

    The name begins alike in every process, so that `import_path` can tell a file from a package's module.
    """
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f"{_FILE_MODULE}{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LimnerError(f"{path}: not a Python file that can be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and typing look a class's module up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise LimnerError(f"{path}: its code raised {_told(error, str(path))}; mend the file") from error
    return module


def _told(error: Exception, file: str) -> str:
    """Return the error in one line, with the line of the file that it came from."""
    at = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    at = at or (lines[-1] if lines else None)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" + (f" (line {at})" if at else "")


def installed_models() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group `limner.models` by name; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        same = found.setdefault(entry.name, [])
        if all(entry.value != other.value for other in same):  # a package may be found twice on the path
            same.append(entry)
    return found


def import_installed(entries: list[EntryPoint]) -> type[Model]:
    """Import the model that an installed package registers under a name.

    Raises:
        LimnerError: two packages register the name, the import fails, or the class is no model of that name.
    """
    entry = entries[0]
    where = f"model {entry.name!r} of {_package(entry)} (entry point {entry.value})"
    if len(entries) > 1:
        packages = " and ".join(f"{_package(each)} ({each.value})" for each in entries)
        raise LimnerError(f"model {entry.name!r}: registered by {packages}; uninstall one of them")
    try:
        found = entry.load()
    except Exception as error:
        raise LimnerError(f"{where}: cannot be imported ({_told(error, '')}); mend or uninstall the package") from error
    model_class = check_model_class(found, where)
    if model_class.name != entry.name:
        raise LimnerError(f"{where}: its class is named {model_class.name!r}; the entry point must have the same name")
    return model_class


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an installed package"


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Model) and value is not Model


def check_model_class(found: Any, where: str) -> type[Model]:
    """Return `found` where it is a complete model class.

    Args:
        found: what was named.
        where: how it was named, for the message.

    Raises:
        LimnerError: it is not a subclass of `Model`, or a part of it is missing or not as it has to be.
    """
    page = "see docs/add-a-model.md"
    if not _is_model(found):
        raise LimnerError(f"{where}: not a subclass of limner.models.Model; {page}")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    missing += [name for name in ("name", "summary", "Config", "batch_size") if not hasattr(found, name)]
    if missing:
        raise LimnerError(f"{where}: {found.__name__} does not define {', '.join(missing)}; {page}")
    if not isinstance(found.name, str) or not _NAME.fullmatch(found.name):
        raise LimnerError(f"{where}: its name is {found.name!r}; use lower-case letters, digits and hyphens")
    fields = dataclasses.fields(found.Config) if dataclasses.is_dataclass(found.Config) else None
    if fields is None or any(field.default is field.default_factory is dataclasses.MISSING for field in fields):
        raise LimnerError(f"{where}: {found.__name__}.Config must be a dataclass whose fields have defaults; {page}")
    return found


def import_path(model_class: type[Model]) -> str | None:
    """Return how another process can import the class: FILE.py:CLASS or MODULE:CLASS; None where it cannot.

    A class made inside a function, in a notebook or in the script that runs cannot be imported elsewhere.
    """
    module = sys.modules.get(model_class.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__" or "." in model_class.__qualname__:
        return None
    place = str(file) if module.__name__.startswith(_FILE_MODULE) else module.__name__
    return f"{place}:{model_class.__qualname__}"


def import_again(path: str) -> type[Model]:
    """Return the class that `import_path` described in the process that started this one."""
    if is_file_spec(path):
        return import_model_file(path)
    module, _, name = path.rpartition(":")
    return check_model_class(getattr(importlib.import_module(module), name), path)


def source_of(model_class: type[Model]) -> str:
    """Return where the class is defined, for a message: FILE.py:CLASS, or MODULE:CLASS of a package's module."""
    module = sys.modules.get(model_class.__module__)
    alone = "." not in model_class.__module__  # a module of a package may import others relative to it
    file = getattr(module, "__file__", None)
    place = str(Path(file).resolve()) if alone and file else model_class.__module__
    return f"{place}:{model_class.__qualname__}"


def file_of(model_class: type[Model]) -> str | None:
    """Return FILE.py:CLASS of a class that a person named so; None of every other class."""
    return source_of(model_class) if model_class.__module__.startswith(_FILE_MODULE) else None


def how_to_name(name: str, source: Any, where: Path) -> str:
    """Return the message for a run whose model is not known here: what to add, and what that means.

    Args:
        name: the model's, as the run has it.
        source: where the run says that the class was; text of a file, not to be trusted.
        where: the file that says so.
    """
    said = "".join(c if c.isprintable() else "?" for c in source)[:400] if isinstance(source, str) else ""
    if is_file_spec(said) and ":" in said:
        class_name = said.rpartition(":")[2]
        add = f"--model {shlex.quote(said)} (in Python model={class_name}), which runs that file: only if you trust it"
    else:
        add = "--model FILE.py:CLASS (in Python model=CLASS), which runs that file, or install the package that has it"
    trained = f" and was trained as {said}" if said else ""
    return f"{where}: model {name!r} is not part of limner{trained}; add {add}"
