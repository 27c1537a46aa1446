"""See to it that a registry has a champion: `python -m calsvc.training.first [--holdout]` before a service follows it.

Where there is one, whichever it is, nothing happens: what is champion is somebody's decision. Where there is none, the
challenger becomes it, and where there is no challenger either, one is trained first.
"""

import argparse
import sys
from pathlib import Path

from calsvc.settings import Settings
from calsvc.training.command import run_command
from calsvc.training.holdout import FOLDER
from calsvc.training.promote import MARGIN, warn
from observability.paths import given_path


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    from calsvc.training.promotion import CHAMPION  # noqa: PLC0415 - as below
    from calsvc.training.store import CHALLENGER, aliases, model_name, open_store  # noqa: PLC0415

    name = model_name(settings)
    held = aliases(open_store(settings.tracking_uri.get_secret_value()), name)
    if CHAMPION in held:
        print(f"champion of {name} is version {held[CHAMPION]}: nothing to do")
        return
    if CHALLENGER not in held:
        _train(settings, arguments.holdout)
    print(_promote(settings, arguments.holdout))


def _train(settings: Settings, held_out: Path) -> None:
    # NumPy, polars and XGBoost read their thread caps when they load.
    from calsvc.training.display import display_progress  # noqa: PLC0415
    from calsvc.training.pipeline import Order, train_bundle  # noqa: PLC0415

    with display_progress() as display:
        train_bundle(settings, Order("onnx", settings.bundle_path, held_out, track=True), display)


def _promote(settings: Settings, held_out: Path) -> str:
    from calsvc.training.judges import on_held_out_rows  # noqa: PLC0415 - as above
    from calsvc.training.promotion import Wish, promote  # noqa: PLC0415
    from calsvc.training.store import user_name  # noqa: PLC0415

    # The judge is asked only where somebody else has made a champion meanwhile: then the gate decides.
    judge = on_held_out_rows(settings, held_out / "stream.csv", warn)
    return promote(settings, Wish(None, MARGIN, user_name(), "the registry had no champion"), judge)


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Train and promote where the registry has no champion yet.")
    parser.add_argument("--holdout", type=given_path, default=FOLDER, help="the split to train on (%(default)s)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
