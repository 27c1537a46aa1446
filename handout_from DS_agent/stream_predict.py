"""Predict workouts as they come in, one JSON object per line.

    python stream_predict.py --model FILE < records.jsonl

Every record has an `id`; the answer is {"id": ..., "Calories": ...} on a line of its own, written at once.
A line that cannot be answered is reported on stderr and skipped; the exit code is then 1.
"""

import argparse
import json
import sys
from pathlib import Path

import joblib
import pandas as pd

# The folder is handed over as it is: importing model.py from it shall not leave compiled files there.
sys.dont_write_bytecode = True

from model import CalorieModel  # noqa: E402


def answer(model: CalorieModel, line: str) -> dict[str, object]:
    record = json.loads(line)
    if not isinstance(record, dict) or "id" not in record:
        raise ValueError("expected a JSON object with an id")
    kcal = model.predict(pd.DataFrame([record]))[0]
    return {"id": record["id"], "Calories": round(float(kcal), 4)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Predict JSON lines from stdin.")
    parser.add_argument("--model", type=Path, default=Path("model.joblib"), help="artefact of train.py")
    args = parser.parse_args()
    try:
        model = joblib.load(args.model)
    except OSError as error:
        print(f"stream_predict.py: error: {error}", file=sys.stderr)
        return 1
    failed = 0
    for number, line in enumerate(sys.stdin, start=1):
        if not line.strip():
            continue
        try:
            print(json.dumps(answer(model, line)), flush=True)
        except (ValueError, TypeError) as error:
            failed += 1
            print(f"stream_predict.py: line {number}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
