"""The `scaling` command: parses, calls, prints. One module a verb, imported only when it is asked for."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

EXIT_DONE, EXIT_OURS, EXIT_INPUT, EXIT_FAILED_CELLS, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

#: verb -> what it does, in the order in which people meet them.
VERBS = {
    "quickstart": "train a small grid on this machine, fit it, draw it, answer",
    "sweep": "train the missing cells of a grid",
    "status": "what is done, running, failed and left in a folder of runs",
    "table": "one CSV or Parquet table of a folder of runs",
    "tune": "the learning rate and batch that suit a corpus, and a rule",
    "fit": "fit a law to a table of runs",
    "isoflop": "Approaches 1 and 2: envelope and isoFLOP parabolas",
    "compare": "law against law on held-out compute",
    "allocate": "the best N and D for a budget",
    "design": "which runs to train next",
    "autopilot": "design, sweep, fit, until the answer is sharp enough",
    "cost": "dollars, hours, kWh and kg CO2e of training and serving",
    "plot": "one figure to a file",
    "report": "figures, law and answer as one page",
    "reproduce": "re-run a published analysis, found beside published",
}

EPILOG = """\
exit status:
  0 done   1 our own fault   2 bad input   3 finished with failed cells   130 interrupted

examples:
  scaling quickstart                                 # from nothing to a fitted law in minutes
  scaling fit runs/quickstart                        # a folder of records, or any CSV, JSON, JSONL, Parquet
  scaling allocate fits/quickstart-chinchilla.json --flops 1e15

`scaling VERB --help` explains each verb, with an example.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status; bad input is one line on stderr, never a traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in argv if not word.startswith("-")), None)
    args = _parser(verb).parse_args(argv)
    _keep_compiled()
    try:
        return args.run(args) or EXIT_DONE
    except KeyboardInterrupt as interrupt:
        return _complain(str(interrupt) or "interrupted.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (ValueError, OSError) as error:
        if os.environ.get("SCALING_TRACEBACK"):
            traceback.print_exc()
        return _complain(_one_line(error), EXIT_INPUT)
    except Exception as error:
        if os.environ.get("SCALING_TRACEBACK"):
            traceback.print_exc()
        what = f"{type(error).__name__}: {_one_line(error)}"
        return _complain(f"our fault, please report it: {what} (SCALING_TRACEBACK=1 shows where).", EXIT_OURS)


def _keep_compiled() -> None:
    """Have jax, which has not started yet, keep what it compiles: a fit compiles for seconds and computes for one."""
    from scaling.runs.write import cache_folder

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def emit_json(payload: object) -> None:
    """Print one JSON object on stdout: what `--json` promises."""
    print(json.dumps(payload, allow_nan=False))


def _complain(message: str, status: int) -> int:
    print(f"scaling: {message}", file=sys.stderr)
    return status


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        room = " Make room; the same command goes on." if error.errno == errno.ENOSPC else ""
        return f"{where}{error.strerror}.{room}"
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_INPUT, f"scaling: {message} (`{self.prog} --help` explains).\n")


def _parser(verb: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="scaling",
        description="Train small transformers over a grid of N and D, fit the scaling law, decide what to train next.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"scaling {version('isoflop')}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    for name, summary in VERBS.items():
        if name != verb:
            verbs.add_parser(name, help=summary, add_help=False)
            continue
        module = importlib.import_module(f"scaling.cli.{name}")
        sub = verbs.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(sub)
        sub.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
        sub.set_defaults(run=module.run)
    return parser
