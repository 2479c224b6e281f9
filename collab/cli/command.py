"""What all commands share: help in panels, the order of commands, exit codes, an option given twice is refused, the
library loads when a command runs, and messages name options, not arguments."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from enum import StrEnum
from importlib import import_module
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from .. import interrupt
from ..errors import CollabWarning, DataError, as_share, with_point
from ..processes import is_main, started

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter  # the classes that TyperCommand's own signatures name
    from typer._click.shell_completion import CompletionItem

USAGE, INTERRUPTED, CLOSED = 2, 130, 141    # exit codes; those of signals are 128 and the number of the signal
UsageError: type[Any] = typer.BadParameter.__mro__[1]       # typer exports no name for what the parser raises
ORDER = ("check", "compare", "tune", "train", "evaluate", "recommend", "similar", "explain", "report", "index", "serve",
         "demo")
"""Commands in the order of a day's work, in which help lists them."""
TOGETHER = ("train",)       # commands that several processes may run as one
FILES, COLUMNS, MODEL, SPLIT = "Reading files", "Columns and rows", "Model", "What is held out"
PANELS = ("Arguments", "Options", MODEL, SPLIT, COLUMNS, FILES)
"""The parts of a command's help; others, by the name that an option gives, follow."""
TYPES = {"str": "TEXT", "int": "INT", "int range": "INT", "float": "NUMBER", "float range": "NUMBER", "path": "PATH",
         "list[str]": "TEXT", "list[path]": "PATH"}
HYPHEN = "\ue000"    # stands for a hyphen while lines are broken, so that none breaks within --valid-pct or ml-100k

OPTIONS = {"user_name=": "--user-col ", "item_name=": "--item-col ", "rating_name=": "--rating-col ",
           "test=": "--test ", "split=leave_last(1)": "--split last",
           "time_name=": "--time-col ", "title_name=": "--title-col ", "sep=": "--sep ", "format=": "--format ",
           "header=False": "--no-header", "header=True": "--header", "encoding=": "--encoding ",
           "min_ratings=": "--min-ratings ", "duplicates=": "--duplicates ", "threshold=": "--threshold ",
           "valid_pct=": "--valid-pct ", "implicit=True": "--implicit", "metrics=": "--metrics ",
           "metric=": "--metric ", "folds=": "--folds ", "compare_models(data)": "collab compare DATA",
           "where=": "--where ", "among=": "--among ", "without=": "--without ", "exclude=None": "--include-seen",
           "columns=": "--columns ", "try bs=": "try --bs ",
           "decimal=": "--decimal ", "date_format=": "--date-format ", "bad_rows=": "--bad-rows ",
           "bad_lines=": "--bad-rows ", "card=False": "--no-card", "items=...": "--items", "users=...": "--users",
           "(items=)": "(--items)", "item_features='auto'": "--items", "user_features='auto'": "--users"}
DROP = "correct these lines, or leave them out with bad_rows='drop'"
REMEDIES = {
    r"correct or drop these rows, or leave them out with bad_rows='drop'": DROP,
    r"(?<=beyond float32)(.*?; )correct or drop them": rf"\1{DROP}",
    r"correct or drop them(?=, or say which column holds the ratings)": DROP,
    r"convert them with pd\.to_numeric\(df\[.*?\]\)":
        "say which column holds the ratings with rating_name=..., or write them as plain numbers",
    r", or convert all with pd\.to_numeric\(.*?errors='coerce'\), and drop what is missing then":
        ", and leave out what is no number with bad_rows='drop'",
    r", or (?:make the times numbers|parse the column first,) with pd\.to_\w+(?:\(df\[column\]\)| and that format)?":
        "",
    r"convert it with pd\.to_datetime\(df\[column\]\) or pd\.to_numeric\(df\[column\]\)": "write numbers or dates",
    r", for example text with \.astype\(str\)": "",
    r"keep one row an id, with df\.drop_duplicates\(.*?\)": "leave one row per id in the file",
    r"read it with Index\.load\(path\)": "collab recommend and collab serve take index files",
    r"read it with load_learner\(path\)": "collab recommend and collab evaluate take it",
    r"make the data with items=\.\.\. and item_features='auto', or the same for users": "pass --items or --users",
    r"add_ratings takes several, or pass one person's rows": "give each user's rows in a file of their own",
    r", or train without a range, with y_range=None": "",
    r"split with split=leave_last\(1\) or time_split\(0\.2\), or time_split\(0\), which holds none out":
        "take --split last or --split time, or --split time --valid-pct 0, which holds none out",
    r"split=leave_last\(1\) or time_split\(0\.2\)": "--split last or --split time",
    r"Take the [\w ]+ \(BiasBaseline[\w ]*\), or gather more ratings": "Gather more ratings",
    r" \(BiasBaseline\)": "",
    r"learn\.index\(columns=\[\.\.\.\]\)": "--columns NAMES",
    r"make it again with learn\.index\(\)": "make it again from the model file with collab index",
    r"make it with learn\.index\(users=True\)": "make it without --no-users",
    r"it was made without \(new_users=False\), or its model": "its model",
    r"; ask the learner: learn\.recommend\(.*?\)": "; the model file may take them",
    r"(?<=has no index: its score is not a product of a user and an item)(?!; collab)":
        "; collab recommend and collab serve take its model file",
    r", and it has no score_new\(items, ratings\)": "",
    r" \(see summary\(\)\)": "",
    r"collab_learner\(data, '(\w+)'\)": r"collab train DATA --model \1",
    r"such as with per_user_split\(\)": "such as with --split per-user",
}
"""What a person mends in Python (patterns), and in what words on the command line."""


CHOSEN = {"bad_rows": (r"(the test ratings: )?[\d,]+ of [\d,]+ rows (is|are) left out: ",
                       r".* these lines are left out$",
                       r".* lines? (has|have) more fields than the first, and (is|are) left out "),
          "duplicates": (r"[\d,]+ of [\d,]+ rows rate a pair again ",)}
"""Warnings of what an option has asked for, which need not be said every night (patterns of their beginnings)."""
SEE = ", as asked (collab check shows them)"
SHORT = {r"([\d,]+ of [\d,]+ rows (?:is|are) left out): .*": rf"\1{SEE}",
         r"(the test ratings: [\d,]+ of [\d,]+ rows (?:is|are) left out): .*": r"\1, as asked",
         r"(.*?: )column .*?: ([\d,]+) of ([\d,]+) dates .* these lines are left out":
             rf"\1lines with \2 of \3 dates are left out{SEE}",
         r"(.*?: )([\d,]+ lines? )(?:has|have) more fields than the first, and ((?:is|are) left out) .*":
             rf"\1\2\3{SEE}",
         r"([\d,]+ of [\d,]+ rows rate a pair again) (?!.* (?:beyond the split|on both sides)).*":
             r"\1, and each pair has one row, as asked"}
"""Such warnings (patterns of the whole) in short, for a run of every night."""
ASKED: list[str] = []
"""Patterns of the warnings that are said in short, while a command runs."""
WORDS: list[Callable[[str], str]] = []
"""How what is said is put in other words, for the length of `worded`."""
NAMES: dict[str, str] = {}
"""The models that the running command is about: classes, as the library names them, and the names that --model takes.
A class of several models that are compared has none."""


@contextmanager
def worded(words: Callable[[str], str]) -> Iterator[None]:
    """Put warnings, and a DataError, that come from inside a `with` in other words."""
    WORDS.append(words)
    try:
        yield
    except DataError as error:
        raise DataError(words(str(error))) from None
    finally:
        WORDS.remove(words)


def known_as(kind: str, name: str) -> None:
    """Name the models of a class so, until the command ends."""
    NAMES[kind] = name if NAMES.get(kind, name) == name else kind


def named_as_options(text: str) -> str:
    """A text in which models have the names that --model takes, in place of their classes."""
    classes = "|".join(map(re.escape, NAMES))
    return re.sub(rf"(?<![\w'\"`])({classes})(?![\w'\"`(])", lambda found: NAMES[found[0]], text) if NAMES else text


def warning(text: str) -> str:
    """A warning in words of the command line, in short where an option has asked for it."""
    if any(re.match(pattern, text) for pattern in ASKED):
        text = next((re.sub(whole, short, text) for whole, short in SHORT.items() if re.fullmatch(whole, text)), text)
    for words in WORDS:
        text = words(text)
    return f"Warning: {as_options(text)}"


class Output(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@contextmanager
def _unheard() -> Iterator[None]:
    """Print nothing to standard output for the length of a `with`."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


class Command(TyperCommand):
    """A command that refuses an option which is given twice, where the parser would silently take the last one, and
    shows its options by panels."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        try:
            values, _, given = self.make_parser(ctx).parse_args(args=list(args))
        except UsageError as error:
            error.ctx = error.ctx or ctx        # a value that lacks is said without
            raise
        for option in dict.fromkeys(given):
            if (n := given.count(option)) > 1 and isinstance(option, TyperOption) and not (
                    option.multiple or option.is_eager):
                ctx.fail(f"{option.opts[0]} is given {n} times; it takes one value")
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            value = values.get(getattr(getattr(error, "param", None), "name", ""))
            if isinstance(value, str):
                error.message = _with_value(error.message, value)
            elif "unexpected extra argument" in str(getattr(error, "message", "")):
                files = [name for name in ("--data", "--ratings") if name in own_options(self)]
                error.message += f"; a file of ratings is given with {files[0]}" if files else ""
            raise

    def invoke(self, ctx: Context) -> Any:
        """Load the library, which takes more than a second, and run the command. From then on Ctrl-C is raised, so that
        running work can clean up. Of several processes that torchrun has started, the first one alone prints."""
        if started() and self.name not in TOGETHER:
            ctx.fail(f"torchrun has started several processes, which is for {', '.join(TOGETHER)}; start "
                     f"{self.name} without it")
        import_module("collab.public")
        interrupt.loaded()
        fitting = import_module(".remedies", __package__).fitting       # which loads what reads tables
        own = {name: ctx.params.get(param.name) for param in self.params if param.name for name in param.opts}
        NAMES.clear()
        with warnings.catch_warnings(), worded(named_as_options), worded(fitting(own)):
            ASKED[:] = _chosen(ctx.params)
            for pattern in ASKED if ctx.params.get("quiet") else ():
                warnings.filterwarnings("ignore", pattern, CollabWarning)
            with nullcontext() if is_main() else _unheard():
                return super().invoke(ctx)

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first sentence, whole: the list of commands wraps it."""
        text = " ".join((self.short_help or self.help or "").split())
        return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        return [_one_line(item) for item in super().shell_complete(ctx, incomplete)]

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        return [re.sub(r"^\{(.*)\}(\.\.\.)?$", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def get_help(self, ctx: Context) -> str:
        return super().get_help(ctx).replace(HYPHEN, "-")

    def format_help_text(self, ctx: Context, formatter: HelpFormatter) -> None:
        with formatter.indentation():
            formatter.write_paragraph()
            formatter.write_text((self.help or "").replace("-", HYPHEN))

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the options by panels, in columns of one width."""
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is None:
                continue
            argument = param.param_type_name == "argument"
            panel = "Arguments" if argument else getattr(param, "rich_help_panel", None) or "Options"
            name = re.sub(r" <([^>]*)>", "" if argument else _short_type, record[0])
            panels.setdefault(panel, []).append((name, record[1].replace("-", HYPHEN)))
        width = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            if rows:
                with formatter.section(panel):
                    formatter.write_dl([(name.ljust(width), text) for name, text in rows])


class Program(TyperGroup):
    """The commands in the order of a day's work. A reader of the output that has gone away ends the program in silence,
    with exit code 141."""

    def list_commands(self, ctx: Context) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        return [_one_line(item) for item in super().shell_complete(ctx, incomplete)]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        with formatter.section("Options"):
            formatter.write_dl([record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))])

    def make_context(self, *args: Any, **kwargs: Any) -> Context:
        with _until_closed():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Context) -> Any:
        with _until_closed():
            return super().invoke(ctx)


def _chosen(params: Mapping[str, Any]) -> Iterator[str]:
    """Patterns of the warnings of what these parameters have asked for, or those of the training that was read again:
    where a command reads ratings of training, it has no such option, or has it for other --data alone."""
    for option, patterns in CHOSEN.items():
        if params.get(option) is not None or ("model" in params and params.get("data") is None):
            yield from patterns


def _with_value(message: str, value: str) -> str:
    """What the parser says of a number, with the value that was given and, of a decimal comma, how to write it."""
    kind = re.match(r"Input should be a valid (number|integer)", message)
    share = as_share(value) if message.endswith(" 0.99") or value.endswith("%") else ""
    if kind is None:
        return message.replace("Input should be", f"got {value!r}; it should be") + share
    whole = kind[1] == "integer"
    return f"got {value!r}, which is not a {'whole ' * whole}number{share or ('' if whole else with_point(value))}"


def own_options(command: TyperCommand) -> set[str]:
    """The names of a command's options."""
    return {name for param in command.params if param.param_type_name == "option" for name in param.opts}


def _one_line(item: CompletionItem) -> CompletionItem:
    """With a help that typer does not break into lines, which fish would take for more candidates."""
    item.help = shorten(item.help or "", 76, placeholder=" ...")
    return item


def _short_type(found: re.Match[str]) -> str:
    return " " + TYPES.get(found[1], found[1])


@contextmanager
def _until_closed() -> Iterator[None]:
    """Flush what was printed; where nobody reads it any more, exit as a program does that SIGPIPE stops."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):         # so that Python's own flush at exit finds no closed pipe
            os.dup2(nowhere, stream.fileno())
        raise typer.Exit(CLOSED) from None


def said(error: Any) -> str:
    """An error in words of the command line, in one line; for a program without any words its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return str(error.format_message())
    text = " ".join(error.format_message().split()).replace("Value error, ", "")
    return f"Error: {text.rstrip('.')}; see {error.ctx.command_path if error.ctx else 'collab'} --help"


def as_options(message: str, options: Mapping[str, str] = OPTIONS) -> str:
    """Replace the library's arguments in a message by the options of the command line, and remedies in Python by those
    of a file. An argument without a value, such as "format=" before a comma, gets no space for it."""
    for remedy, own in REMEDIES.items():
        message = re.sub(remedy, own, message)
    pattern = "|".join(rf"(?<![\w-]){re.escape(argument)}" for argument in options)

    def option(found: re.Match[str]) -> str:
        alone = re.match(r"[,;:)\s]|\.?(\s|$)", message[found.end():])
        return options[found[0]].rstrip() if alone else options[found[0]]
    return re.sub(pattern, option, message)
