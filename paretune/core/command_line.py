"""Shared behaviour of all commands: errors become one sentence and exit code 2, hyphens in flags count as underscores."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from paretune.core.errors import UsageError, did_you_mean
from paretune.core.host_process import own_process


@contextlib.contextmanager
def exit_with_sentence() -> Iterator[None]:
    """Turn a person's mistake into one sentence on stderr and exit code 2, and Ctrl-C into exit code 130."""
    own_process()
    try:
        yield
    except UsageError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


class SentenceParser(argparse.ArgumentParser):
    """argparse that reports a mistake in one sentence; of a flag that is none it says which was meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def add_program(self) -> None:
        """Add the flag of commands that load models: `program` is a list of files, for `paretune.models.programs.load_programs`."""
        self.add_argument(
            "--program",
            action="append",
            default=[],
            metavar="FILE",
            help="the program of a model that does not come with paretune (repeatable)",
        )

    def error(self, message: str) -> NoReturn:
        unknown = self._unknown_flag()
        if unknown is not None and message.startswith(("unrecognized arguments", "argument", "the following")):
            message = f"{unknown} is not a flag of {self.prog}{did_you_mean(unknown, self._flags()) or '; --help lists them.'}"
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)

    def _flags(self) -> list[str]:
        """Return the flags of this command and of its sub-commands."""
        found = list(self._option_string_actions)
        for action in self._actions:
            for parser in action.choices.values() if isinstance(action.choices, Mapping) else ():
                found += parser._flags()
        return found

    def _unknown_flag(self) -> str | None:
        """Return the first argument that looks like a long flag and is none; what stands behind it was taken for something else."""
        given = self._given[: self._given.index("--")] if "--" in self._given else self._given
        names = (text.partition("=")[0] for text in given if text.startswith("--"))
        known = self._flags()
        return next((name for name in names if name not in known), None)


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Write --train-size=5 as --train_size=5: both spellings are the same flag."""
    result = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        result.append((flag.replace("-", "_").replace("__", "--", 1) if flag.startswith("--") else flag) + equals + value)
    return result
