# SPDX-License-Identifier: Apache-2.0
"""The commands behind ``wavefix``: each checks its inputs and outputs, works, and tells."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import wavefix
from wavefix._core import DataError, ModelFormatError
from wavefix.channel_model import ChannelModel
from wavefix.dataset import ChannelDataset
from wavefix.evaluation import evaluate, status_share
from wavefix.files import written_whole
from wavefix.queries import load_queries
from wavefix.report import duration, size

REGRESSOR_SECONDS = 300.0


def run_simulate(args: argparse.Namespace) -> None:
    """SCENE -> dataset file."""
    if args.list:
        names = wavefix.scenes()
        _answer(args.json, {"scenes": list(names)}, "\n".join(names))
        return
    if args.scene is None or args.output is None:
        raise DataError("simulate: expected SCENE and -o FILE (or --list for the names of the scenes)")
    scene = load_scene(args.scene)
    require_writable(args.output, inputs=[args.scene])
    start = perf_counter()
    data = wavefix.simulate(scene, n=args.locations, seed=args.seed, threads=args.threads)
    if args.snr_db is not None:
        data = data.with_noise(args.snr_db, args.seed)
    data.save(args.output)
    seconds = perf_counter() - start
    record = {"output": args.output, "scene": args.scene, **dataset_record(data), "seconds": seconds}
    _answer(args.json, record, f"{args.output}: {data!r}, {duration(seconds)}")


def run_fit(args: argparse.Namespace) -> None:
    """Dataset file -> model file."""
    if args.position_std and args.kind != "spherical":
        raise DataError(f"fit: --position-std is for --kind spherical, {args.kind} takes positions as they are")
    options = {"position_std": args.position_std} if args.position_std else {}
    data = ChannelDataset.load(args.train)
    data.known_positions()
    require_writable(args.output, inputs=[args.train])
    if args.checkpoint:
        require_writable(args.checkpoint, inputs=[args.train, args.output])
    use_threads(args.threads)
    start = perf_counter()
    model = wavefix.fit(
        data,
        kind=args.kind,
        seed=args.seed,
        device=args.device,
        time_limit=args.time_limit,
        checkpoint=args.checkpoint,
        validation_fraction=args.validation_fraction,
        **options,
    )
    model.save(args.output)
    seconds = perf_counter() - start
    record = {"output": args.output, "kind": args.kind, "bytes": os.path.getsize(args.output), "seconds": seconds}
    text = f"{args.output}: {args.kind} model, {size(record['bytes'])}, {duration(seconds)}"
    if isinstance(model, ChannelModel):
        record |= {"atoms": model.n_atoms, "validation_nmse_db": decibels(model.validation_nmse)}
        text += f", {model.n_atoms} atoms, NMSE {record['validation_nmse_db']:.1f} dB on held-out locations"
    _answer(args.json, record, text)


def run_locate(args: argparse.Namespace) -> None:
    """Model and queries -> fixes file."""
    if args.output is None and args.json is None:
        raise DataError("locate: expected -o FILE or --json: the fixes have nowhere to go")
    model = ChannelModel.load(args.model)
    channels = load_queries(args.queries, model)
    if args.output is not None:
        require_writable(args.output, inputs=[args.model, args.queries])
    localizer = wavefix.Localizer(model, strategy=args.strategy)
    start = perf_counter()
    fixes = localizer.locate(channels, threads=args.threads)
    seconds = perf_counter() - start
    if args.output is not None:
        fixes.save(args.output)
    shares = status_share(fixes.status)
    record = {
        "output": args.output,
        "strategy": args.strategy,
        "n": len(channels),
        "seconds": seconds,
        "status_share": shares,
        "fixes": fixes_record(fixes),
    }
    told = ", ".join(f"{100 * share:.3g} % {name}" for name, share in shares.items())
    _answer(args.json, record, f"{args.output}: {len(channels)} fixes in {duration(seconds)} ({told})")


def run_evaluate(args: argparse.Namespace) -> None:
    """Model and test set -> table, JSON, pictures."""
    model = load_any_model(args.model)
    test_data = ChannelDataset.load(args.test)
    train_data = None if args.train is None else ChannelDataset.load(args.train)
    scene = None if args.scene is None else load_scene(args.scene)
    _check_evaluate_outputs(args)
    use_threads(args.threads)
    regressor = None
    if args.mlp:
        regressor = fitted_regressor(train_data, args.seed)
    result = evaluate(
        model,
        test_data,
        localizers=args.strategy,
        train_data=train_data,
        regressor=regressor,
        snr_db=args.snr_db,
        seed=args.seed,
        threads=args.threads,
        wrong_fix_distance=args.wrong_fix,
        progress=progress_line,
    )
    progress_line(None)
    if args.plot:
        from wavefix.plots import save_error_cdf

        save_error_cdf(args.plot, result)
    if args.map:
        from wavefix.plots import save_picture

        save_picture(args.map, result, test_data, train_data=train_data, model=model, scene=scene)
    if args.json and args.json != "-":
        result.to_json(args.json)
    print(result.to_json() if args.json == "-" else result.table())


def run_info(args: argparse.Namespace) -> None:
    """Any file of ours, or the build."""
    from wavefix.describe import as_text, describe

    record = describe(args.file)
    _answer(args.json, record, as_text(record))


def run_demo(args: argparse.Namespace) -> None:
    """The whole story; the table comes last."""
    from wavefix.demo import run

    say = (lambda _text: None) if args.json else lambda text: print(text, flush=True)
    scene = None if args.scene is None else load_scene(args.scene)
    result = run(args.output, scene=scene, quick=args.quick, seed=args.seed, threads=args.threads, say=say)
    if args.json:
        print(result.to_json())


def run_bench(args: argparse.Namespace) -> None:
    """Timings with peers, answers compared."""
    from wavefix.bench import bench_table, run_benchmarks

    model = None if args.model is None else ChannelModel.load(args.model)
    if args.json and args.json != "-":
        require_writable(args.json, inputs=[args.model])
    record = run_benchmarks(model, quick=args.quick, seed=args.seed, threads=args.threads)
    if args.json and args.json != "-":
        with written_whole(args.json) as stream:
            stream.write(json.dumps(record, indent=2).encode())
    print(json.dumps(record, indent=2) if args.json == "-" else bench_table(record))


def load_scene(name: str) -> Any:
    """A named scene, or one from a JSON file; an unknown name is answered with the known ones."""
    if name.endswith(".json") or os.path.sep in name:
        return wavefix.Scene.load(name)
    if name not in wavefix.scenes():
        known = ", ".join(wavefix.scenes())
        raise DataError(f"unknown scene {name!r}; known: {known}; or give a scene file (.json)")
    return wavefix.Scene.named(name)


def load_any_model(path: str) -> Any:
    """A ``ChannelModel``, or a torch baseline that ``wavefix fit --kind mlp`` or ``rff`` wrote."""
    try:
        return ChannelModel.load(path)
    except ModelFormatError:
        with open(path, "rb") as stream:
            if b"wavefix-baseline" not in stream.read(1 << 16):
                raise
    from wavefix.training.baselines import BaselineModel

    return BaselineModel.load(path)


def fitted_regressor(train_data: ChannelDataset | None, seed: int) -> Any:
    """The MLP regression baseline, trained on ``train_data``."""
    if train_data is None:
        raise DataError("--mlp: needs --train FILE to learn from")
    from wavefix.training import PositionRegressor

    progress_line("fitting the MLP regression")
    return PositionRegressor().fit(train_data, seed=seed, time_limit=REGRESSOR_SECONDS, progress=False)


def require_writable(path: str, inputs: Iterable[str | None] = ()) -> None:
    """OSError or DataError now, rather than after the work, where ``path`` cannot be written.

    ``inputs`` are files that ``path`` must not replace.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(21, "is a folder, expected a file name to write", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(2, "its folder does not exist, cannot write there", str(path))
    for name in inputs:
        if name and target.exists() and os.path.exists(name) and os.path.samefile(target, name):
            raise DataError(f"{path}: is an input of this command, it would be overwritten")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise PermissionError(error.errno, f"cannot write there ({error.strerror})", str(path)) from error


def require_writable_folder(path: str | os.PathLike[str]) -> None:
    """Make the folder ``path`` where it is missing, and be sure that files can be written in it."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(20, "exists and is not a folder", str(path))
    folder.mkdir(parents=True, exist_ok=True)
    require_writable(str(folder / "probe"))


def fixes_record(fixes: Any) -> list[dict[str, Any]]:
    """One plain record a query; null where there is no fix."""
    deviation = np.sqrt(np.trace(np.asarray(fixes.covariance), axis1=1, axis2=2))
    return [
        {
            "position": [_plain(value) for value in position],
            "standard_deviation": _plain(sigma),
            "status": wavefix.Status(int(status)).name.lower(),
            "residual": _plain(residual),
            "ambiguity": _plain(ambiguity),
        }
        for position, sigma, status, residual, ambiguity in zip(
            fixes.position, deviation, fixes.status, fixes.residual, fixes.ambiguity, strict=True
        )
    ]


def dataset_record(data: ChannelDataset) -> dict[str, Any]:
    """What a dataset holds, as plain values."""
    n, antennas, subcarriers = data.channels.shape
    return {
        "locations": n,
        "antennas": antennas,
        "subcarriers": subcarriers,
        "carrier_hz": data.reference_frequency,
        "bandwidth_hz": float(np.ptp(data.frequencies)),
        "wavelength_m": data.wavelength,
        "line_of_sight_share": None if data.line_of_sight is None else float(np.mean(data.line_of_sight)),
    }


def decibels(value: float) -> float:
    """``10 log10``."""
    return float(10 * np.log10(value)) if value > 0 else float("-inf")


def use_threads(threads: int) -> None:
    """Limit torch to ``threads`` where it is going to be used; 0 leaves it alone."""
    if threads > 0:
        try:
            import torch
        except ImportError:
            return
        torch.set_num_threads(threads)


def progress_line(text: str | None) -> None:
    """One line on a terminal, replaced by the next; None clears it. Silent where stderr is no terminal."""
    if sys.stderr.isatty():
        print("\r\033[K" + (f"{text} ..." if text else ""), end="", file=sys.stderr, flush=True)


def _check_evaluate_outputs(args: argparse.Namespace) -> None:
    inputs = [args.model, args.test, args.train]
    for picture in (args.plot, args.map):
        if picture:
            from wavefix.plots import require_format

            require_format(picture)
            require_writable(picture, inputs=inputs)
    if args.json and args.json != "-":
        require_writable(args.json, inputs=inputs)
    if args.mlp and args.train is None:
        raise DataError("--mlp: needs --train FILE to learn from")


def _answer(as_json: str | None, record: dict[str, Any], text: str) -> None:
    print(json.dumps(record, indent=2, allow_nan=False) if as_json else text)


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
