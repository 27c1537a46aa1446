"""Write every dashboard to observability/generated, one JSON file each."""

from pathlib import Path
from typing import Final

from observability.dashboards import BOARDS
from observability.dashboards.rendering import as_json

GENERATED: Final = Path(__file__).parents[1] / "generated"


def write(folder: Path) -> None:
    """Write the dashboards, and remove those that are none any more."""
    folder.mkdir(exist_ok=True)
    texts = {f"{board.name}.json": as_json(board) for board in BOARDS}
    for stale in {path.name for path in folder.glob("*.json")} - texts.keys():
        (folder / stale).unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(GENERATED)
