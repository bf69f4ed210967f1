"""Entry point: the commands, and what turns errors into one line and an exit code."""

import sys
from typing import Annotated

import typer

from autoprivacy.cli import choices_app, machines_app, models_app, networks_app, private_app, proof_app
from autoprivacy.common.errors import AutoPrivacyError, BadInput

INTERRUPTED = 130
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Measure a machine, model its latency, choose HE parameters per layer, prove the choice.",
)
for part in (networks_app, machines_app, models_app, choices_app, private_app, proof_app):
    app.add_typer(part.app)


def _say_version(asked: bool) -> None:
    if asked:
        from autoprivacy.cli.console import VERSION, say

        say(f"autoprivacy {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say on standard error what is done; twice for every step."),
    ] = 0,
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """What holds for all commands; $AUTOPRIVACY_LOG (info or debug) is the same as --verbose."""
    log_to_standard_error(verbose)


def log_to_standard_error(verbose: int) -> None:
    """Turn the log up: nothing is logged otherwise."""
    import logging
    import os

    wanted = os.environ.get("AUTOPRIVACY_LOG", "").lower()
    if wanted not in {"", "info", "debug"}:
        raise BadInput(f"AUTOPRIVACY_LOG is {wanted!r}; set it to info or debug, or leave it out")
    if verbose or wanted:
        level = logging.DEBUG if verbose > 1 or wanted == "debug" else logging.INFO
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logger = logging.getLogger("autoprivacy")
        logger.handlers = [handler]
        logger.setLevel(level)


VARIADIC = frozenset({"--policies", "--deployments"})


def spread(arguments: list[str]) -> list[str]:
    """Options that take several values in a row, written once for each.

    >>> spread(["compare", "net", "--policies", "p", "q", "--json"])
    ['compare', 'net', '--policies', 'p', '--policies', 'q', '--json']
    """
    found: list[str] = []
    current = ""
    for argument in arguments:
        if argument.startswith("-"):
            current = argument if argument in VARIADIC else ""
        elif current and found[-1] != current:
            found.append(current)
        found.append(argument)
    return found


def main() -> None:
    """Run the command; errors of ours become one line on standard error and their exit code."""
    try:
        # Typer turns Ctrl-C into the exit code 130, which it returns.
        code = app(spread(sys.argv[1:]), standalone_mode=False)
    except AutoPrivacyError as error:
        _end(f"autoprivacy: {error}", error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        # Typer carries its own copy of click, whose usage errors have no public base class to catch.
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        _end(f"autoprivacy: {usage()} (see --help)" if usage() else "", 2)
    if code == INTERRUPTED:
        _end("autoprivacy: interrupted; what was finished is kept", INTERRUPTED)
    sys.exit(code)


def _end(message: str, code: int) -> None:
    if message:
        from autoprivacy.cli.console import printable

        # Names in a message may come from a file, and hold what would break the line or steer the terminal.
        sys.stderr.write(printable(message) + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
