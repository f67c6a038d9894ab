"""Mistakes at a command line: one sentence, an exit code, and which flag was meant."""

from __future__ import annotations

import io
import sys

import pytest

from paretune.core.command_line import SentenceParser, exit_with_sentence, with_underscores
from paretune.core.errors import UsageError


def parser_of() -> SentenceParser:
    parser = SentenceParser(prog="command", allow_abbrev=False)
    parser.add_argument("source")
    parser.add_argument("--trials", type=int)
    parser.add_program()
    commands = parser.add_subparsers(dest="what", parser_class=SentenceParser)
    commands.add_parser("list", allow_abbrev=False).add_argument("--sorted", action="store_true")
    return parser


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("x must be y."), 2, "error: x must be y.\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted: what was finished is kept.\n"),
    ],
)
def test_a_mistake_and_an_interrupt_end_a_command_with_words_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info, exit_with_sentence():
        raise error
    assert exit_info.value.code == code
    assert capsys.readouterr() == ("", said)


def test_another_error_is_a_traceback_and_no_error_nothing() -> None:
    with pytest.raises(ZeroDivisionError), exit_with_sentence():
        raise ZeroDivisionError
    with exit_with_sentence():
        pass


def test_what_was_printed_before_a_mistake_stands_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    both = io.StringIO()

    class Late(io.StringIO):
        """Standard output that keeps its text until it is flushed."""

        def flush(self) -> None:
            both.write(self.getvalue())
            self.truncate(0)
            self.seek(0)

    monkeypatch.setattr(sys, "stdout", Late())
    monkeypatch.setattr(sys, "stderr", both)
    print("first")
    with pytest.raises(SystemExit), exit_with_sentence():
        raise UsageError("second")
    assert both.getvalue() == "first\nerror: second\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["s", "--trails", "3"], "error: --trails is not a flag of command; did you mean '--trials'?"),
        (["s", "--trails=3"], "error: --trails is not a flag of command; did you mean '--trials'?"),
        (["s", "--zzz"], "error: --zzz is not a flag of command; --help lists them."),
        (["--trails"], "error: --trails is not a flag of command; did you mean '--trials'?"),
        (["s", "--trials", "x"], "error: argument --trials: invalid int value: 'x'"),
        ([], "error: the following arguments are required: source"),
        (["s", "list", "--sorte"], "error: --sorte is not a flag of command; did you mean '--sorted'?"),
        (["s", "--trials", "x", "--", "--zzz"], "error: argument --trials: invalid int value: 'x'"),
        (["s", "nothing"], "error: argument what: invalid choice: 'nothing'"),
    ],
)
def test_a_flag_that_is_none_is_named_with_the_one_that_was_meant(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parser_of().parse_args(arguments)
    assert exit_info.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1


def test_the_arguments_of_the_process_are_looked_at_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "s", "--trails=3"])
    with pytest.raises(SystemExit):
        parser_of().parse_args()
    assert "did you mean '--trials'" in capsys.readouterr().err


def test_programs_are_collected() -> None:
    assert parser_of().parse_args(["s"]).program == []
    assert parser_of().parse_args(["s", "--program", "a.py", "--program=b.py"]).program == ["a.py", "b.py"]


def test_hyphens_in_flags_count_as_underscores_and_others_stay() -> None:
    given = ["--train-size=5-6", "--a-b-c", "-x-y", "a-b", "--", "--no-x", "--a=--b-c"]
    assert with_underscores(given) == ["--train_size=5-6", "--a_b_c", "-x-y", "a-b", "--", "--no_x", "--a=--b-c"]
