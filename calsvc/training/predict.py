"""Score a CSV with the bundle: `python -m calsvc.training.predict [--data FILE_OR_FOLDER] [--out FILE] [--model DIR]`.

Writes `id,Calories` in the order of the file. Where the file has Calories itself, the error against them is printed.
"""

import argparse
import sys
from pathlib import Path

from calsvc.handout.form import TEST
from calsvc.http.errors import HandoutError
from calsvc.settings import Settings
from calsvc.training.command import run_command
from observability.paths import given_path


def _run(arguments: argparse.Namespace, settings: Settings) -> None:
    # polars, NumPy and XGBoost read their thread caps when they load.
    import polars as pl  # noqa: PLC0415

    from calsvc.model.bundle import load_bundle  # noqa: PLC0415
    from calsvc.registry.files import replace_file  # noqa: PLC0415
    from calsvc.training.batch import mae, predict_rows, rmsle  # noqa: PLC0415
    from calsvc.training.rows import TARGET, read_rows  # noqa: PLC0415

    data: Path = arguments.data or settings.handout_dir / TEST
    bundle = load_bundle(arguments.model or settings.bundle_path)
    rows = read_rows(data / "test.csv" if data.is_dir() else data, labelled=False)
    kcal = predict_rows(bundle, settings, rows)
    answers = pl.DataFrame({"id": rows.frame["id"], TARGET: kcal})
    try:
        replace_file(arguments.out, answers.write_csv().encode())
    except OSError as error:
        raise HandoutError(f"cannot write {arguments.out}: {error.strerror}") from None
    print(f"{len(kcal)} predictions by {bundle.manifest.model_version} in {arguments.out}")
    if rows.target is not None:
        print(f"RMSLE {rmsle(rows.target, kcal):.5f}, MAE {mae(rows.target, kcal):.3f} kcal")


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="just predict", description="Score a CSV of workouts with the bundle.")
    parser.add_argument("--data", type=given_path, help="CSV, or folder with test.csv (default: the handout's)")
    parser.add_argument("--out", type=given_path, default="predictions.csv", help="CSV to write (%(default)s)")
    parser.add_argument("--model", type=given_path, help="bundle to use (default: CALSVC_MODEL)")
    return run_command(parser, _run)


if __name__ == "__main__":
    sys.exit(main())
