"""Every public name says what it is for, has types and an example that runs, and is on one page of the reference."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path

import attrs

import geovlm
from geovlm import errors

PACKAGE = Path(geovlm.__file__).parent
REFERENCE = Path(__file__).parents[1] / "docs" / "api"

# Public besides the packages: modules that people import from.
MODULES = (
    *("agents", "encoders.dense", "errors", "imaging", "index", "pixtral.chat_data", "prompts", "protocols", "records"),
    *("registry", "testing.tiny_pixtral", "training.callbacks", "training.recipe"),
)
# Not a library but a program: docs/cli.md is its reference.
PROGRAMS = {"geovlm.cli"}
ENTRY = re.compile(r"^::: (geovlm[\w.]*)\n(    options:\n(?:      .*\n)+)?", re.MULTILINE)


def _packages():
    for path in sorted(PACKAGE.rglob("__init__.py")):
        name = ".".join(("geovlm", *path.parent.relative_to(PACKAGE).parts))
        if "._" not in name and name not in PROGRAMS:
            yield name


@cache
def public_names():
    """All paths under which a name is public, by the object they lead to."""
    found = {}
    for module in map(importlib.import_module, (*_packages(), *(f"geovlm.{name}" for name in MODULES))):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if not inspect.ismodule(value) and name != "__version__":
                found.setdefault(_key(name, value), []).append(f"{module.__name__}.{name}")
    return found


def _key(name, value):
    return name if isinstance(value, int | str) else (name, id(value))


def _value(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@cache
def documented():
    """What the pages of the reference show, with the page; modules shown without members have only their head there."""
    return [
        (path, page.name)
        for page in sorted(REFERENCE.glob("*.md"))
        for path, options in ENTRY.findall(page.read_text(encoding="utf-8"))
        if "members: false" not in options
    ]


def _objects():
    """Public functions and classes, each once, by its shortest name."""
    for paths in public_names().values():
        path = min(paths, key=lambda path: (path.count("."), path))
        value = _value(path)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield path, value


def _methods():
    """Public methods and properties of public classes, as functions."""
    for path, value in _objects():
        if inspect.isclass(value):
            for name, member in vars(value).items():
                function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
                if not name.startswith("_") and inspect.isfunction(function):
                    yield f"{path}.{name}", function, value


def _parameters(value):
    try:
        return [one for one in inspect.signature(value).parameters.values() if one.name not in ("self", "cls")]
    except ValueError:  # an exception without arguments of its own
        return []


def _is_protocol(value):
    return getattr(value, "_is_protocol", False)


def test_there_is_much_to_look_at():
    assert len(list(_objects())) > 150
    assert len(list(_methods())) > 300


def test_every_public_name_is_on_one_page():
    pages = {}
    for path, page in documented():
        value = _value(path)
        pages.setdefault(_key(path.rpartition(".")[2], value), []).append(page)
    missing = sorted(min(paths) for key, paths in public_names().items() if key not in pages)
    assert not missing, f"not in docs/api: {missing}"
    twice = sorted(str(key) for key, found in pages.items() if len(found) > 1)
    assert not twice, f"more than once in docs/api: {twice}"


def test_nothing_private_is_on_a_page():
    known = public_names()
    for path, page in documented():
        assert not any(part.startswith("_") for part in path.split(".")), (path, page)
        name = path.rpartition(".")[2]
        assert _key(name, _value(path)) in known or name == "Preset", (path, page)


def test_every_public_name_says_what_it_is_for():
    wrong = [path for path, value in _objects() if not (value.__doc__ or "").strip()]
    wrong += [path for path, function, owner in _methods() if not function.__doc__ and not _needs_none(function, owner)]
    assert not wrong, wrong


def _needs_none(function, owner):
    # Attributes of a protocol are described once, on the protocol; the name of a contract's test is its sentence.
    return _is_protocol(owner) or function.__name__.startswith("test_")


def test_every_argument_is_described():
    wrong = []
    for path, value in _objects():
        if _is_protocol(value):
            continue
        described = inspect.getdoc(value).partition("Args:")[2]
        names = (one.name for one in _parameters(value))
        wrong += [f"{path}({name})" for name in names if not re.search(rf"^ +{name}: ", described, re.MULTILINE)]
    assert not wrong, wrong


def test_every_class_and_function_has_an_example_that_runs():
    wrong = []
    for path, value in _objects():
        examples = doctest.DocTestParser().get_examples(value.__doc__ or "")
        runs = [one for one in examples if doctest.SKIP not in one.options]
        if not runs or "Examples:" not in inspect.getdoc(value):
            wrong.append(path)
    assert not wrong, wrong


def test_every_argument_and_result_has_a_type():
    wrong = []
    for path, function in _functions():
        wrong += [f"{path}({one.name})" for one in _parameters(function) if one.annotation is inspect.Parameter.empty]
        if inspect.signature(function).return_annotation is inspect.Signature.empty:
            wrong.append(f"{path}() -> ?")
    assert not wrong, wrong


def _functions():
    """Public functions, public methods, and what makes the classes that are not made by attrs."""
    for path, value in _objects():
        if inspect.isfunction(value):
            yield path, value
        elif "__init__" in vars(value) and not attrs.has(value) and not _is_protocol(value):
            yield path, value.__init__
    yield from ((path, function) for path, function, _ in _methods())


def test_errors_that_are_raised_are_told():
    wrong = []
    for path, function in _functions():
        if function.__name__ == "__init__":  # told on the class
            continue
        told = (inspect.getdoc(function) or "").partition("Raises:")[2]
        for name in _raised(function):
            kin = {one.__name__ for one in getattr(errors, name).__mro__} & set(errors.__all__)
            if not any(one in told for one in kin):
                wrong.append(f"{path}: {name}")
    assert not wrong, wrong


def _raised(function):
    """Errors of geovlm that a function raises in its own lines."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = (node.exc.func for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call))
    return {call.id for call in calls if isinstance(call, ast.Name) and call.id in errors.__all__}
