"""Completion of flags and their values for bash: `source <(python -m tfshape completion)`."""

from __future__ import annotations

import json
import subprocess
import sys

from tfshape.cli import BINARIES

_LIST = """
import importlib, json, sys
from absl import flags
importlib.import_module(f"tfshape.cli.{sys.argv[1]}")
found = {}
for module, defined in flags.FLAGS.flags_by_module_dict().items():
    if module.startswith("tfshape."):
        for flag in defined:
            found[flag.name] = None if flag.boolean else list(getattr(flag.parser, "enum_values", []))
print(json.dumps(found))
"""
_SCRIPT = """\
_tfshape() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} flag= words=
  if [[ $word == "=" ]]; then flag=$before word=
  elif [[ $before == "=" ]]; then flag=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  case ${{COMP_WORDS[0]##*/}}$flag in
{cases}
    *--*) COMPREPLY=($(compgen -f -- "$word")); return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  if [[ ${{COMPREPLY[0]}} == *= ]]; then compopt -o nospace; fi
}}
complete -F _tfshape {commands}
"""


def script() -> str:
    """The text for bash to source: every flag of every binary, and the values of those that have a fixed few."""
    cases: list[str] = []
    for name in BINARIES:
        flags = _flags(name)
        words = sorted(f"--{flag}" if values is None else f"--{flag}=" for flag, values in flags.items())
        cases.append(f'    {name} | tfshape-{name}) words="{" ".join(words)}" ;;')
        for flag, values in flags.items():
            if values:
                cases.append(f'    {name}--{flag} | tfshape-{name}--{flag}) words="{" ".join(values)}" ;;')
    commands = " ".join(f"bin/{name} tfshape-{name}" for name in BINARIES)
    return _SCRIPT.format(cases="\n".join(cases), commands=commands)


def _flags(name: str) -> dict[str, list[str] | None]:
    """Name to values, None for a switch; in a process of its own, for binaries share names of flags."""
    command = [sys.executable, "-c", _LIST, name]
    flags: dict[str, list[str] | None] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    if "attack" in flags:
        from tfshape import attacks, datasets, models

        flags.update(attack=list(attacks.names()), dataset=list(datasets.names()), model=list(models.names()))
    return flags
