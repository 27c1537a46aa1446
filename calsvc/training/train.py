"""Train and publish: `python -m calsvc.training.train [--engine] [--out] [--holdout] [--no-track] [--if-needed]`.

Runs the handout's own train.py on the split, exports what it trained, proves the export against the handout's own
predict, puts the bundle in place and registers it in MLflow. Whatever fails before, the bundle that was there stays.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from calsvc.handout.form import check_handout
from calsvc.settings import Settings
from calsvc.training.command import run_command
from calsvc.training.holdout import FOLDER
from observability.paths import given_path

if TYPE_CHECKING:
    from calsvc.model.bundle import ParityProof
    from calsvc.training.pipeline import Summary


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    check_handout(settings.handout_dir)  # before two seconds of imports
    out: Path = arguments.out or settings.bundle_path
    if arguments.if_needed:
        from calsvc.training.current import bundle_is_current  # noqa: PLC0415 - loads NumPy, which reads its thread cap

        if bundle_is_current(settings.model_copy(update={"model": out})):
            print(f"{out} was made from this handout: nothing to do")
            return
    from calsvc.training.display import display_progress  # noqa: PLC0415 - as above, and polars and XGBoost
    from calsvc.training.pipeline import Order, train_bundle  # noqa: PLC0415

    order = Order(arguments.engine, out, arguments.holdout, not arguments.no_track)
    with display_progress() as display:
        summary = train_bundle(settings, order, display)
    print(_told(summary))


def _told(summary: "Summary") -> str:
    from calsvc.training.store import CHALLENGER  # noqa: PLC0415 - loaded by now

    manifest = summary.bundle.manifest
    valid = manifest.training_metrics.get("valid_rmsle")
    lines = [
        f"version        {manifest.model_version}",
        f"engine         {manifest.engine}" + (f", {manifest.trees} trees" if manifest.trees else ""),
        f"valid RMSLE    {'not reported by train.py' if valid is None else f'{valid:.5f} (reported by train.py)'}",
        f"holdout RMSLE  {summary.holdout_rmsle:.5f} on {summary.holdout_rows} rows never trained on",
        f"parity         {_parity(manifest.parity)}",
        f"bundle         {summary.bundle.folder}",
    ]
    if registered := summary.registered:
        lines.append(f"run            {registered.run_id}")
        lines.append(f"registered     {registered.name} version {registered.version}, alias {CHALLENGER}")
    return "\n".join(lines)


def _parity(proof: "ParityProof") -> str:
    difference = proof.max_relative_difference
    if difference is None:
        return "unknown: the handout's own predict cannot be compared with itself"
    told = f"{difference:.1e} at most over {proof.rows} rows (allowed {proof.tolerance:g})"
    return told if difference <= proof.tolerance else f"not held: {told}"


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="just train", description="Train the handout and publish the bundle.")
    engines = ("onnx", "reference", "auto")
    parser.add_argument(
        "--engine", choices=engines, default="onnx", help="auto: onnx, else the handout's own code (%(default)s)"
    )
    parser.add_argument("--out", type=given_path, help="where the bundle goes (default: CALSVC_MODEL)")
    parser.add_argument("--holdout", type=given_path, default=FOLDER, help="the split to train on (%(default)s)")
    parser.add_argument("--no-track", action="store_true", help="do not record the training in MLflow")
    parser.add_argument("--if-needed", action="store_true", help="only where the bundle is not of this handout")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
