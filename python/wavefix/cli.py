# SPDX-License-Identifier: Apache-2.0
"""The ``wavefix`` command: parse, run, and turn every error into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from wavefix._core import Error, __version__
from wavefix.localizer import STRATEGIES

EXIT_OK, EXIT_INTERNAL, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
DEFAULT_STRATEGY = "float_fix"
_BAD_INPUT = (Error, OSError, ValueError, TypeError, ImportError, MemoryError)

_EPILOG = """\
start here:
  wavefix demo --quick                       the whole story in under a minute
step by step:
  wavefix simulate --list                                       names of the scenes
  wavefix simulate plaza -o train.npz -n 2500 --seed 0     channels to learn from
  wavefix simulate plaza -o test.npz -n 300 --seed 1       channels to be tested with
  wavefix fit train.npz -o scene.safetensors                    learn the channel model
  wavefix locate scene.safetensors test.npz -o fixes.npz        positions from channels
  wavefix evaluate scene.safetensors test.npz --train train.npz

Lengths are meters, frequencies hertz, angles radians. Exit codes: 0 done, 2 bad input, 130 interrupted.
WAVEFIX_DEBUG=1 shows the full traceback of an error."""


class _Parser(argparse.ArgumentParser):
    """argparse's parser with errors on one line."""

    def error(self, message: str) -> NoReturn:
        _say(f"error: {message} (see '{self.prog} --help')")
        raise SystemExit(EXIT_BAD_INPUT)


class _SdkPath(argparse.Action):
    """Prints where a part of the C++ package is, and leaves, as ``--version`` does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from wavefix.sdk import sdk_path

        try:
            print(sdk_path(self.dest.removesuffix("_dir")))
        except Error as error:
            parser.error(str(error))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (None: the process's arguments) names; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(_json_argument(arguments))
    try:
        from wavefix import commands

        run: Callable[[argparse.Namespace], None] = getattr(commands, f"run_{args.command}")
        run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _raise_if_debugging()
        _say(f"interrupted; {_kept(args)}")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # whoever read the output has left; keep the interpreter's last flush from complaining
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except _BAD_INPUT as error:
        _raise_if_debugging()
        _say(f"error: {one_line(error)}")
        return EXIT_BAD_INPUT
    except Exception as error:
        _raise_if_debugging()
        _say(f"error: internal: {type(error).__name__}: {one_line(error)} (WAVEFIX_DEBUG=1 shows where)")
        return EXIT_INTERNAL
    return EXIT_OK


def one_line(error: BaseException) -> str:
    """The message of ``error`` without line breaks; file errors as ``name: reason``."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) and not error.args:
        return "out of memory"
    return " ".join(str(error).split()) or type(error).__name__


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="wavefix",
        description="Learn a radio scene from measured channels and locate users to less than a wavelength.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wavefix {__version__}")
    for part, what in (
        ("cmake-dir", "folder for -Dwavefix_DIR= of CMake"),
        ("include-dir", "folder of the C and C++ headers"),
        ("pkgconfig-dir", "folder for PKG_CONFIG_PATH"),
        ("library", "file of the shared library"),
    ):
        parser.add_argument(f"--{part}", action=_SdkPath, nargs=0, help=f"print the {what}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_demo, _simulate, _fit, _locate, _evaluate, _info, _bench):
        add(commands)
    return parser


def _demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "simulate a scene, fit, locate, evaluate: a table and a picture at the end",
        "wavefix demo --quick\n  wavefix demo --scene plaza -o my-demo",
    )
    parser.add_argument("--quick", action="store_true", help="smaller training set and budget: under a minute")
    parser.add_argument("-o", "--output", default="wavefix-demo", metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--scene", metavar="NAME", help="a scene from 'wavefix simulate --list', or a scene file")
    _seed(parser, "of positions, training and noise")
    _threads(parser)
    _json_flag(parser)


def _simulate(commands: Any) -> None:
    parser = _command(
        commands,
        "simulate",
        "compute the channels of a scene at random positions",
        "wavefix simulate --list\n  wavefix simulate plaza -o train.npz -n 2500\n"
        "  wavefix simulate my_room.json -o noisy.h5 -n 100 --snr-db 5 --seed 7",
    )
    parser.add_argument("scene", nargs="?", metavar="SCENE", help="name of a scene, or a scene file (.json)")
    parser.add_argument("-o", "--output", metavar="FILE", help="dataset to write: .npz, or .h5 (needs h5py)")
    parser.add_argument("-n", "--locations", type=_positive_int, default=2500, metavar="N", help="default: %(default)s")
    parser.add_argument("--snr-db", type=_number, metavar="DB", help="add white noise at this signal-to-noise ratio")
    parser.add_argument("--list", action="store_true", help="print the names of the scenes that come with wavefix")
    _seed(parser, "of positions and noise; use different seeds for training and test")
    _threads(parser)
    _json_flag(parser)


def _fit(commands: Any) -> None:
    parser = _command(
        commands,
        "fit",
        "learn a channel model from measured or simulated channels (needs torch)",
        "wavefix fit train.npz -o scene.safetensors --time-limit 300\n"
        "  wavefix fit train.npz -o scene.safetensors --checkpoint fit.checkpoint   (run again to resume)",
    )
    parser.add_argument("train", metavar="TRAIN", help="dataset with positions (.npz or .h5)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="model to write (.safetensors)")
    parser.add_argument(
        "--kind", default="spherical", choices=("spherical", "planar", "mlp", "rff"), help="default: %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument(
        "--time-limit", type=_positive, metavar="SECONDS", help="stop after this long and keep the best (default: 1200)"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="save the state of the training here; resume where it is")
    parser.add_argument(
        "--validation-fraction", type=_fraction, default=0.1, metavar="P", help="share held out (default: %(default)s)"
    )
    parser.add_argument(
        "--position-std",
        type=_not_negative,
        default=0.0,
        metavar="METERS",
        help="standard deviation of the errors of the positions along each axis; they are refined (default: 0, none)",
    )
    _seed(parser, "of the split and of the start")
    _threads(parser)
    _json_flag(parser)


def _locate(commands: Any) -> None:
    parser = _command(
        commands,
        "locate",
        "turn channels into positions with a fitted model",
        "wavefix locate scene.safetensors queries.npz -o fixes.npz\n"
        "  wavefix locate scene.safetensors queries.npz --json | head",
    )
    parser.add_argument("model", metavar="MODEL", help="what 'wavefix fit' wrote")
    parser.add_argument("queries", metavar="QUERIES", help="dataset; only its channels are needed")
    parser.add_argument("-o", "--output", metavar="FILE", help="fixes to write (.npz)")
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default=DEFAULT_STRATEGY,
        metavar="NAME",
        help=f"one of {', '.join(STRATEGIES)} (default: %(default)s)",
    )
    _threads(parser)
    _json_flag(parser)


def _evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "compare fixes and channels with the truth, method by method",
        "wavefix evaluate scene.safetensors test.npz\n"
        "  wavefix evaluate scene.safetensors test.npz --train train.npz --snr-db 5 --plot cdf.png --json out.json",
    )
    parser.add_argument("model", metavar="MODEL", help="what 'wavefix fit' wrote")
    parser.add_argument("test", metavar="TEST", help="dataset with positions that the training has not seen")
    parser.add_argument("--train", metavar="FILE", help="training dataset: adds the fingerprinting baselines")
    parser.add_argument("--mlp", action="store_true", help="add the MLP regression baseline (needs --train and torch)")
    parser.add_argument(
        "--strategy",
        action="append",
        choices=STRATEGIES,
        metavar="NAME",
        help=f"may be repeated (default: float_fix and those of the paper); one of {', '.join(STRATEGIES)}",
    )
    parser.add_argument("--snr-db", type=_number, metavar="DB", help="add noise to the queries; adds the error bound")
    parser.add_argument(
        "--wrong-fix", type=_positive, default=0.03, metavar="M", help="a fix is wrong beyond (default: %(default)s m)"
    )
    parser.add_argument("--plot", metavar="FILE", help="error distribution of all methods (.png, .pdf, .svg)")
    parser.add_argument("--map", metavar="FILE", help="the same beside maps of the scene and of the fixes")
    parser.add_argument("--scene", metavar="NAME", help="scene name or file, whose walls --map draws")
    _seed(parser, "of the noise")
    _threads(parser)
    _json_file(parser)


def _info(commands: Any) -> None:
    parser = _command(
        commands,
        "info",
        "describe a model, dataset, scene or fixes file; without a file, this build",
        "wavefix info\n  wavefix info scene.safetensors\n  wavefix info train.npz --json",
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="what to describe")
    _json_flag(parser)


def _bench(commands: Any) -> None:
    parser = _command(
        commands,
        "bench",
        "time synthesis, search, refinement and fixes against NumPy, and check that the answers agree",
        "wavefix bench --quick\n  wavefix bench --model scene.safetensors --json bench.json",
    )
    parser.add_argument("--model", metavar="FILE", help="a fitted model (default: one of random weights)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    _seed(parser, "of the inputs")
    _threads(parser)
    _json_file(parser)


def _command(commands: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:\n  {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _seed(parser: argparse.ArgumentParser, of_what: str) -> None:
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help=f"{of_what} (default: %(default)s)")


def _threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_natural, default=0, metavar="N", help="0: all (default)")


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_const", const="-", help="print JSON on standard output")


def _json_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="[FILE.json]", help="JSON to this file, or on standard output without one")


def _json_argument(arguments: list[str]) -> list[str]:
    """``--json`` of evaluate and bench takes a value only where the next word is a .json name."""
    if not arguments or arguments[0] not in ("evaluate", "bench"):
        return arguments
    out = list(arguments)
    for index, word in enumerate(arguments):
        if word == "--json":
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            if not following.endswith(".json"):
                out[index] = "--json=-"
    return out


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 0, got {text}")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, got {text}")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not -1e3 < value < 1e3:
        raise argparse.ArgumentTypeError(f"expected a number of decibels, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number that is not negative, got {text}")
    return value


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a share between 0 and 1, got {text}")
    return value


# argparse puts these names into its messages: "invalid whole number value: 'x'"
_natural.__name__ = _positive_int.__name__ = "whole number"
_number.__name__ = _positive.__name__ = _not_negative.__name__ = _fraction.__name__ = "number"


def _kept(args: argparse.Namespace) -> str:
    """What an interrupted command leaves behind."""
    checkpoint = getattr(args, "checkpoint", None)
    if checkpoint and os.path.exists(checkpoint):
        return f"the training so far is kept in {checkpoint}; run the same command to resume"
    if args.command == "demo":
        return f"complete files stay in {args.output}, nothing is half-written"
    return "nothing was written"


def _raise_if_debugging() -> None:
    if os.environ.get("WAVEFIX_DEBUG", "0") not in ("", "0"):
        raise  # the exception being handled: only called from except blocks


def _say(text: str) -> None:
    print(f"wavefix: {text}", file=sys.stderr)
