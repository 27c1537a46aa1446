"""A run as an SVG file: replicas, load, CPU, refusals and latency over time. Pure: the same run, the same bytes."""

import html
from collections.abc import Callable, Sequence
from typing import Final

from capacity.runs import Moment
from streamsim.charts import HEIGHT, WIDTH, Axis, Line, chart

GAP: Final = 16
HEAD: Final = 26
STYLE: Final = """
svg{--bg:#fff;--fg:#1b2430;--dim:#5b6675;--edge:#d9dfe7;--a:#0b62c4;--b:#b35900;--c:#c2255c}
@media(prefers-color-scheme:dark){svg{--bg:#12171e;--fg:#e4e9f0;--dim:#9aa7b6;--edge:#2c3643;--a:#6cb0ff;--b:#f0a35e;
--c:#ff7fa8}}
.paper{fill:var(--bg)}text{fill:var(--dim);font:11px system-ui,sans-serif}text.title{fill:var(--fg);font-weight:600;
font-size:13px}path{fill:none;stroke-width:1.6;stroke-linecap:round;stroke-linejoin:round}path.a{stroke:var(--a)}
path.b{stroke:var(--b);stroke-dasharray:5 3}path.c{stroke:var(--c)}.grid{stroke:var(--edge);stroke-width:1}
text.a{fill:var(--a)}text.b{fill:var(--b)}text.c{fill:var(--c)}
"""


def drawing(title: str, moments: Sequence[Moment]) -> str:
    """Return the file's text."""

    def line(name: str, style: str, value: Callable[[Moment], float]) -> Line:
        return Line(name, style, [(each.at, value(each)) for each in moments])

    panels = [
        ("Replicas", [line("ready", "a", lambda each: each.ready), line("told", "b", lambda each: each.told)]),
        ("Calls a second", [line("arrive", "a", lambda each: each.rate)]),
        ("CPU, percent of the limits", [line("used", "a", lambda each: 100 * each.busy)]),
        ("Predictions refused a second", [line("refused", "c", lambda each: each.errors)]),
        (
            "Milliseconds in the replica",
            [line("p99", "a", lambda each: each.p99), line("p50", "b", lambda each: each.p50)],
        ),
    ]
    rows = (len(panels) + 1) // 2
    width, height = 2 * WIDTH + 3 * GAP, HEAD + rows * (HEIGHT + HEAD + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        f'<text class="title" x="{GAP}" y="18">{html.escape(title)}</text>',
    ]
    for number, (name, lines) in enumerate(panels):
        row, column = divmod(number, 2)
        parts.append(_panel(name, lines, (GAP + column * (WIDTH + GAP), HEAD + row * (HEIGHT + HEAD + GAP))))
    return "".join([*parts, "</svg>\n"])


def _panel(name: str, lines: Sequence[Line], corner: tuple[int, int]) -> str:
    x, y = corner
    keys = "".join(f'<tspan dx="12" class="{each.style}">\u2014 {html.escape(each.name)}</tspan>' for each in lines)
    # The class of a tspan does not colour it as a text's does: the fill is given where it is.
    for style in "abc":
        keys = keys.replace(f'class="{style}"', f'style="fill:var(--{style})"')
    drawn = chart(lines, Axis(title="seconds"), Axis(title=name))
    placed = drawn.replace("<svg ", f'<svg x="{x}" y="{y + HEAD}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    return f'<text class="title" x="{x}" y="{y + 18}">{html.escape(name)}{keys}</text>{placed}'
