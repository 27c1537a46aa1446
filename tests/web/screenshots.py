"""Remakes the pictures of the live page in docs/images, of a service that runs (docs/page.md says how)."""

import argparse
import asyncio
import io
from pathlib import Path
from typing import Final

from PIL import Image

from tests.service_process import ROOT
from tests.web.chromium import chromium

IMAGES: Final = ROOT / "docs" / "images"
WIDTHS: Final = {"desktop": 1440, "phone": 390}
COLOURS: Final = 256
"""Of a picture: a third of the bytes."""
TURNS: Final = "document.documentElement.dataset.link === 'live' && document.getElementById('hint').hidden === {full}"


async def take(url: str, state: str, folder: Path) -> None:
    """Take four pictures: desktop, whole, and the first screen of a phone; each light and dark."""
    async with chromium() as tab:
        for device, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                await tab.open(url, width, scheme)
                await tab.until(TURNS.format(full=str(state == "full").lower()))
                await asyncio.sleep(1.5)  # the charts have been drawn with their second snapshot
                file = folder / f"page-{state}-{device}-{scheme}.png"
                picture = Image.open(io.BytesIO(await tab.screenshot(whole=device == "desktop"))).convert("RGB")
                picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(file, optimize=True)
                print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
        print(f"complaints of the browser: {tab.complaints or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.web.screenshots", description=__doc__)
    parser.add_argument("state", choices=("empty", "full"), help="what the service is by now; waits until it is so")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go (default: docs/images)")
    options = parser.parse_args()
    asyncio.run(take(options.url, options.state, options.folder))
