"""The bundle: one folder with everything that serving needs of a model, proven complete and unaltered when it is read.

    bundle.json      the manifest below
    parity.json      rows and the handout's own predictions (parity.ParitySample)
    profile.json     how each raw input and the target were distributed in training (profile.Profile by name)
    model.ubj        XGBoost's own format: the trees that are used, for batches           (engine onnx)
    model.onnx       the same trees, for single records                                  (engine onnx)
    artefact.joblib  what train.py wrote, for the worker that runs the handout's code     (engine reference)
    form.json        what a row of the handout's CSV looks like (handout.frame.CsvForm)   (engine reference)

Nothing here writes; `publish.py` does.
"""

import hashlib
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from calsvc.http.errors import BundleError
from calsvc.model.parity import ParitySample
from calsvc.model.profile import Profile
from calsvc.model.target import Target

FORMAT: Final = 1
MANIFEST: Final = "bundle.json"
PARITY: Final = "parity.json"
PROFILE: Final = "profile.json"
TREES: Final = "model.ubj"
ONNX: Final = "model.onnx"
ARTEFACT: Final = "artefact.joblib"
FORM: Final = "form.json"

Engine = Literal["onnx", "reference"]
FILES: Final[dict[Engine, tuple[str, ...]]] = {
    "onnx": (PARITY, PROFILE, TREES, ONNX),
    "reference": (PARITY, PROFILE, ARTEFACT, FORM),
}
"""What a bundle of each engine holds beside its manifest."""


class ParityProof(Struct, frozen=True, kw_only=True):
    """Outcome of a comparison with the handout's own predict of single rows, when the bundle was made.

    Compared is what the exported trees say (engine onnx), or what that predict says in batches (engine reference). The
    latter difference may be above `tolerance`; None where there are no numbers to compare.
    """

    rows: int
    max_relative_difference: float | None
    tolerance: float


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle says about itself. Numbers of the target in kcal; times in UTC.

    `model_version` is the time of publishing and the start of the digest over everything else in the manifest, the
    files' checksums included: the same for no two models, sortable, and wrong as soon as a byte is altered.
    """

    format: int = FORMAT
    model_version: str = ""
    created_at: str
    engine: Engine
    feature_names: list[str]
    trees: int
    target: Target
    training_metrics: dict[str, float]
    checksums: dict[str, str] = {}
    git_sha: str | None
    mlflow_run_id: str | None = None
    handout_sha256: str
    parity: ParityProof
    libraries: dict[str, str]


class Bundle(NamedTuple):
    """A bundle that was complete and unaltered when it was loaded. `folder` is its own, no symlink that can move."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Return the content of one file.

        Raises:
            BundleError: the file is missing or not what the manifest's checksum says.
        """
        content = _content(self.folder / name)
        if sha256(content) != self.manifest.checksums.get(name):
            raise _unusable(f"{self.folder / name} is not the file that was published: its checksum differs")
        return content

    def parity_sample(self) -> ParitySample:
        """Return the rows that any engine must answer as the handout does."""
        return _decoded(self.folder / PARITY, self.read(PARITY), ParitySample)

    def profile(self) -> dict[str, Profile]:
        """Return the training distribution of each raw input and of the target (`Calories`)."""
        return _decoded(self.folder / PROFILE, self.read(PROFILE), dict[str, Profile])


def load_bundle(path: Path) -> Bundle:
    """Read the bundle at `path` (a folder, or a symlink to one) and verify all of it.

    Raises:
        BundleError: naming the file that is missing, altered or of another format, and what to do.
    """
    try:
        folder = path.resolve(strict=True)  # once: the symlink may be swapped while the files are read
    except OSError:
        raise _unusable(f"there is no bundle at {path}") from None
    bundle = Bundle(folder, _manifest(folder / MANIFEST))
    for name in FILES[bundle.manifest.engine]:
        bundle.read(name)
    return bundle


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the one byte form of a manifest, the form that `load_bundle` accepts."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def version_of(manifest: Manifest) -> str:
    """Return the `model_version` that belongs to this content, `20261123T200412Z-1a2b3c4d` for example."""
    digest = sha256(encode_manifest(msgspec.structs.replace(manifest, model_version="")))
    stamp = manifest.created_at.partition(".")[0].replace("-", "").replace(":", "").removesuffix("Z")
    return f"{stamp}Z-{digest[:8]}"


def sha256(content: bytes) -> str:
    """Return the SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class _AnyFormat(Struct):
    format: int


def _manifest(path: Path) -> Manifest:
    content = _content(path)
    found = _decoded(path, content, _AnyFormat).format
    if found != FORMAT:
        raise _unusable(f"{path} is of format {found}, this program reads format {FORMAT}")
    manifest = _decoded(path, content, Manifest)
    if encode_manifest(manifest) != content or version_of(manifest) != manifest.model_version:
        raise _unusable(f"{path} was altered: its content does not give its model_version")
    return manifest


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _unusable(f"{path} is missing") from None
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from None


T = TypeVar("T")


def _decoded(path: Path, content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unusable(f"{path} is not a bundle's file: {error}") from None


def _unusable(reason: str) -> BundleError:
    return BundleError(f"{reason}; make a new one with: just train")
