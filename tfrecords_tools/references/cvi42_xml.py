"""Reading the XML of a cvi42 workspace (.cvi42wsx): contours by SOPInstanceUID.

    ImageStates > SOPInstanceUID > Contours > saepicardialContour >
        Points > item > Point:x, Point:y
        SubpixelResolution

Each step is an element with the attribute Hash:key. Only what is needed is kept while
the text streams by, so that neither its size nor its depth takes memory.
"""

import dataclasses
from pathlib import Path
from xml.sax import SAXException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl

import numpy as np

from tfrecords_tools.errors import RefusedError

_MAX_FILE_BYTES = 64 * 2**20
_MAX_DEPTH = 64
_MAX_ELEMENTS = 1_500_000
"""Three a point: twice what contours on 50 cine frames of 12 slices take."""

_MAX_TEXT = 128

_STATES, _CONTOURS, _RESOLUTION, _STUDY = (
    "ImageStates",
    "Contours",
    "SubpixelResolution",
    "StudyUid",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Workspace:
    """The contours of a workspace.

    Attributes:
        study_uids: StudyInstanceUIDs that it names.
        contours: by SOPInstanceUID and by name: (N, 2) of (row, column) in pixels.
    """

    study_uids: frozenset[str]
    contours: dict[str, dict[str, np.ndarray]]


def read_workspace(path: Path) -> Workspace:
    """Reads a workspace.

    Raises:
        RefusedError: `NOT_A_FILE`, `TOO_LARGE`, `NESTING`, `CORRUPT` or `CONTOUR`.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.sax import parse

    if not path.is_file():
        raise RefusedError(path, "NOT_A_FILE", "no such regular file")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise RefusedError(path, "TOO_LARGE", f"over {_MAX_FILE_BYTES} bytes")
    handler = _Handler(path)
    try:
        with path.open("rb") as file:
            parse(file, handler, forbid_dtd=True)
    except DefusedXmlException:
        reason = "declares entities or a document type, which no workspace does"
        raise RefusedError(path, "CORRUPT", reason) from None
    except (SAXException, UnicodeError, ValueError, LookupError):
        raise RefusedError(path, "CORRUPT", "not well-formed XML") from None
    contours = {
        uid: {name: drawn.pixels(path) for name, drawn in names.items() if drawn.used}
        for uid, names in handler.drawn.items()
    }
    kept = {uid: names for uid, names in contours.items() if names}
    return Workspace(frozenset(handler.study_uids), kept)


@dataclasses.dataclass
class _Drawn:
    """One contour while it is read."""

    x: list[float] = dataclasses.field(default_factory=list)
    y: list[float] = dataclasses.field(default_factory=list)
    resolution: float = 1.0

    @property
    def used(self) -> bool:
        return bool(self.x or self.y)

    def pixels(self, path: Path) -> np.ndarray:
        if len(self.x) != len(self.y) or not 1 <= self.resolution <= 64:
            reason = "points of one coordinate, or a resolution that is not 1 to 64"
            raise RefusedError(path, "CONTOUR", reason)
        return np.stack([self.y, self.x], axis=1) / self.resolution


class _Handler(ContentHandler):
    def __init__(self, path: Path):
        super().__init__()
        self.drawn: dict[str, dict[str, _Drawn]] = {}
        self.study_uids: set[str] = set()
        self._path = path
        self._keys: list[str] = []
        self._text = ""
        self._elements = 0

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802
        """Follows the keys down; elements without a key count as their own name."""
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            reason = f"over {_MAX_ELEMENTS} elements"
            raise RefusedError(self._path, "TOO_LARGE", reason)
        if len(self._keys) >= _MAX_DEPTH:
            raise RefusedError(
                self._path, "NESTING", f"over {_MAX_DEPTH} elements deep"
            )
        found = [attrs[one] for one in attrs.keys() if one.split(":")[-1] == "key"]  # noqa: SIM118
        self._keys.append(found[0] if found else name.split(":")[-1])
        self._text = ""

    def characters(self, content: str) -> None:
        """Keeps the text of the innermost element, up to a bound."""
        if len(self._text) <= _MAX_TEXT:
            self._text += content[: _MAX_TEXT + 1]

    def endElement(self, name: str) -> None:  # noqa: N802
        """Keeps what stands at the end of a path that is known."""
        del name
        text, self._text = self._text.strip(), ""
        last = self._keys[-1]
        if last == _STUDY and text:
            self.study_uids.add(text)
        elif last in ("x", "y", _RESOLUTION) and _STATES in self._keys:
            self._keep(last, self._keys[self._keys.index(_STATES) + 1 : -1], text)
        self._keys.pop()

    def _keep(self, last: str, keys: list[str], text: str) -> None:
        uid, *inner = keys or [""]
        if len(inner) < 2 or inner[0] != _CONTOURS:
            return
        contour = self.drawn.setdefault(uid, {}).setdefault(inner[1], _Drawn())
        if last == _RESOLUTION:
            contour.resolution = self._number(text)
        elif inner[2:3] == ["Points"]:
            (contour.x if last == "x" else contour.y).append(self._number(text))

    def _number(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            reason = "a coordinate that is no number"
            raise RefusedError(self._path, "CONTOUR", reason) from None
