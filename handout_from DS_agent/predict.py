"""Predict a file of workouts.

    python predict.py --model FILE [--data-dir DIR] [--out FILE]

Reads DIR/test.csv, writes `id,Calories`.
"""

import argparse
import sys
from pathlib import Path

import joblib
import pandas as pd

# The folder is handed over as it is: importing model.py from it shall not leave compiled files there.
sys.dont_write_bytecode = True

HERE = Path(__file__).resolve().parent


def run(args: argparse.Namespace) -> None:
    model = joblib.load(args.model)
    df = pd.read_csv(args.data_dir / "test.csv")
    if "id" not in df.columns:
        raise ValueError("test.csv: missing column: id")
    answer = pd.DataFrame({"id": df["id"], "Calories": model.predict(df)})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    answer.to_csv(args.out, index=False)
    print(f"wrote {len(answer)} predictions to {args.out}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Predict the calories of test.csv.")
    parser.add_argument("--data-dir", type=Path, default=HERE / "data_sample", help="folder with test.csv")
    parser.add_argument("--model", type=Path, default=Path("model.joblib"), help="artefact of train.py")
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"))
    try:
        run(parser.parse_args())
    except (ValueError, OSError) as error:
        print(f"predict.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
