"""The parts of `just bench`, and the page that a document with their results becomes. Nothing here measures."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from tests.bench import ladder, outage, overload, pending, scorer, stores, window
from tests.bench.machine import Machine, described
from tests.bench.peers import report as peers


class Text(Struct):
    """The result of a part that prints Markdown itself."""

    markdown: str


class Part(NamedTuple):
    """One part: the program `tests.bench.NAME`, and how its result is shown. `timed`: takes rounds and seconds."""

    title: str
    kind: type[Any] = Text
    markdown: Callable[[Any], str] = lambda result: result.markdown

    @property
    def timed(self) -> bool:
        """True where the program takes the options of `part.parser` and writes JSON."""
        return self.kind is not Text


PARTS: Final[dict[str, Part]] = {
    "ladder": Part("What each part of the service costs", ladder.Ladder, ladder.markdown),
    "stores": Part("What each kind of store costs", stores.Stores, stores.markdown),
    "scorer": Part("The scorer alone", scorer.ScorerFigures, scorer.markdown),
    "overload": Part("More load than can be answered", overload.Overload, overload.markdown),
    "outage": Part("When a backend is lost", outage.Outage, outage.markdown),
    "pending": Part("Cost against predictions that wait", pending.Pending, pending.markdown),
    "window": Part("Cost against the window's rate", window.WindowFigures, window.markdown),
    "startup": Part("Start-up"),
    "service_memory": Part("Memory of the service"),
    "simulator_memory": Part("Memory of the simulator"),
    "peers": Part("Known model servers on the same model", peers.Peers, peers.markdown),
}


class Document(Struct):
    """Everything that one run has found; the parts as their programs wrote them."""

    machine: Machine
    parts: dict[str, Raw]


INTRODUCTION: Final = """# Figures of one run

Written by `./justw bench{alone} --docs`, like `{json}` beside it, which holds the same figures and more of them;
[performance.md](performance.md) says what they mean. They are for comparing with each other, not for promising: on
another machine the ratios stay, the rest does not."""


def section(name: str, content: bytes | Raw) -> str:
    """Return one part as Markdown, under its heading."""
    part = PARTS[name]
    return f"## {part.title}\n\n{part.markdown(msgspec.json.decode(content, type=part.kind))}"


def page(document: Document, alone: Sequence[str] = ()) -> str:
    """Return the whole document as Markdown; `alone`: the parts that were asked for, where not all of them were."""
    introduction = INTRODUCTION.format(
        alone="".join(f" {name}" for name in alone), json="-".join(["bench", *alone]) + ".json"
    )
    sections = [section(name, content) for name, content in document.parts.items()]
    return "\n\n".join([introduction, described(document.machine), *sections]) + "\n"
