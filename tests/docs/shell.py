"""What a page tells people to type: read as far as it can be without doing it."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


class Understood(Exception):
    """A program has read its arguments."""


def commands(text: str) -> list[list[str]]:
    """The words of each command, without comments, prompts, continued lines and settings before the command."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    words = [word for part in found for word in (*part, ";")]
    split: list[list[str]] = [[]]
    for word in words:
        if word in {";", "&&", "|", ">"}:
            split.append([])
        else:
            split[-1].append(word)
    bare = [_without_settings(command) for command in split]
    return [command for command in bare if command]


def check(command: list[str], monkeypatch) -> None:
    """Fail if this cannot be meant: an unknown extra, target, program or argument. Commands of others are not read."""
    program, *rest = command
    if program in {"pip", "uv"}:
        _check_extras(rest)
    elif program == "make":
        unknown = {word for word in rest if "=" not in word} - TARGETS
        assert not unknown, f"the Makefile has no target {unknown}"
    elif program == "geovlm":
        _check_geovlm(rest)
    elif program == "torchrun":
        _check_python(rest[2:], monkeypatch)
    elif Path(program).name in {"python", "python3"}:
        _check_python(rest, monkeypatch)


def _without_settings(command: list[str]) -> list[str]:
    while command and (re.fullmatch(r"[A-Z_]+=.*", command[0]) or command[0] == "export"):
        command = command[1:]
    return command


def _check_extras(words: list[str]) -> None:
    named = {extra for word in words for part in re.findall(r"geovlm\[(.*?)\]|^\.\[(.*?)\]", word) for extra in part}
    unknown = {name.strip() for group in named for name in group.split(",") if name} - EXTRAS
    assert not unknown, f"geovlm has no extras {unknown}"


def _check_python(words: list[str], monkeypatch) -> None:
    """The program reads its arguments, and is stopped there; only geovlm's own programs are started."""
    if words[:1] == ["-m"] and words[1].startswith("geovlm"):
        _stop_at_arguments(lambda: runpy.run_module(words[1], run_name="__main__"), words[1:], monkeypatch)
    elif words and words[0].startswith(("examples/", "benchmarks/")):
        program = ROOT / words[0]
        assert program.is_file(), f"there is no {words[0]}"
        _stop_at_arguments(lambda: runpy.run_path(str(program), run_name="__main__"), words, monkeypatch)


def _stop_at_arguments(start, words: list[str], monkeypatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, *arguments):
        parse(parser, *arguments)
        raise Understood

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "path", [str(ROOT / Path(words[0]).parent), *sys.path])
        with pytest.raises((Understood, SystemExit)) as end:
            start()
    assert end.type is Understood or end.value.code in {0, None}, f"these arguments are not taken: {words}"


def _check_geovlm(words: list[str]) -> None:
    """Each command of the group takes its options, down to the last; `--help` and `--version` end it before."""
    import typer.main

    from geovlm.cli.app import make_app

    command, context, rest = typer.main.get_command(make_app()), None, words
    name = "geovlm"
    while True:
        try:
            context = command.make_context(name, list(rest), parent=context)
        except Exception as error:
            # Typer brings its own click, or not: the class of what it raises is told by its name.
            if type(error).__name__ == "Exit":
                return
            raise
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest or not hasattr(command, "commands"):
            return
        name, command, rest = command.resolve_command(context, rest)
