"""The V1 predict protocol of TensorFlow Serving and of KServe, over HTTP.

Of its two forms of a request only `instances` is known to both: here one, the study.
"""

import dataclasses
import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

import numpy as np

from jdl_keras.serving.servers import (
    SIGNATURE,
    Maps,
    checked,
    refused,
    retried,
    too_late,
    unavailable,
)
from tfrecords_tools.errors import RefusedError

UNAVAILABLE = 503
LONGEST_NUMBER = 100
"""Bytes of a number in an answer: TensorFlow Serving gives it a line and indents it."""

LONGEST_FRAME = 2**20
"""Bytes of an answer beside its numbers."""


@dataclasses.dataclass
class RestServer:
    """A server that speaks the V1 protocol.

    Nothing is sent but the model's name, pixels and spacings; a proxy that the
    environment may name is not used.

    Attributes:
        url: its address, such as `http://127.0.0.1:8501`.
        model: name of the model.
        version: of the model; None for the newest, or where there is only one.
        timeout_seconds: for each answer.
        retries: further tries while nobody answers.
        ca_file: certificates that an https server is checked against.

    Raises:
        RefusedError: if the address is none.
    """

    url: str
    model: str
    version: int | None = None
    timeout_seconds: float = 120.0
    retries: int = 3
    ca_file: Path | None = None

    def __post_init__(self):
        self._address()

    def check(self) -> None:
        """See `Server`; a model that is still being loaded gives no answer."""
        status, content = self._ask("GET", self._path, b"", LONGEST_FRAME)
        if status != 200:
            raise refused(self.url, status, _said(content))
        found = _parsed(content)
        states = found.get("model_version_status") if isinstance(found, dict) else None
        if states is None:
            return  # KServe has one version, and does not tell which
        try:
            loaded = [int(s["version"]) for s in states if s["state"] == "AVAILABLE"]
        except (KeyError, TypeError, ValueError):
            reason = "no model status of the V1 protocol"
            raise RefusedError(self.url, "ANSWER", reason) from None
        if not loaded:
            raise unavailable(self.url, f"{self.model} has no version that is loaded")
        self.version = max(loaded)

    def predict(self, images: np.ndarray, spacing_mm: np.ndarray) -> Maps:
        """See `Server`."""
        body = encode(images, spacing_mm)
        longest = 2 * images.size * LONGEST_NUMBER + LONGEST_FRAME
        path = f"{self._path}:predict"
        status, content = retried(
            lambda: self._ask("POST", path, body, longest), self.retries
        )
        if status != 200:
            raise refused(self.url, status, _said(content))
        try:
            maps = decode(_parsed(content))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            reason = "no predictions of the V1 protocol"
            raise RefusedError(self.url, "ANSWER", reason) from None
        return checked(maps, images.shape, self.url)

    @property
    def _path(self) -> str:
        version = "" if self.version is None else f"/versions/{self.version}"
        prefix = self._address().path.rstrip("/")
        return f"{prefix}/v1/models/{quote(self.model, safe='')}{version}"

    def _address(self) -> SplitResult:
        try:
            address = urlsplit(self.url)
            whole = address.scheme in {"http", "https"} and address.hostname
            bare = not (address.query or address.fragment or address.username)
            if whole and bare and address.port != 0:
                return address
        except ValueError:
            pass
        reason = f"expected http://HOST:PORT or https://HOST:PORT, got {self.url}"
        raise RefusedError("url", "CONFIG", reason)

    def _connection(self) -> HTTPConnection:
        address = self._address()
        host, seconds = str(address.hostname), self.timeout_seconds
        if address.scheme == "http":
            return HTTPConnection(host, address.port, timeout=seconds)
        context = ssl.create_default_context(cafile=self.ca_file)
        return HTTPSConnection(host, address.port, timeout=seconds, context=context)

    def _ask(
        self, verb: str, path: str, body: bytes, longest: int
    ) -> tuple[int, bytes]:
        """Status and content of an answer.

        Raises:
            ConnectionError: if there is none, or 503.
            RefusedError: if it is too late, too long or not HTTP.
        """
        connection = self._connection()
        try:
            status, content = _exchange(connection, verb, path, body, longest)
        except TimeoutError:
            raise too_late(self.url, self.timeout_seconds) from None
        except ssl.SSLError as error:
            raise refused(self.url, "TLS", error) from None
        except OSError as error:
            raise unavailable(self.url, error.strerror or error) from None
        except HTTPException as error:
            reason = f"not HTTP: {type(error).__name__}"
            raise RefusedError(self.url, "ANSWER", reason) from None
        finally:
            connection.close()
        if status == UNAVAILABLE:
            raise unavailable(self.url, f"{status}: {_said(content)}")
        if len(content) > longest:
            raise RefusedError(self.url, "ANSWER", f"over {longest} bytes")
        return status, content


def _exchange(
    connection: HTTPConnection, verb: str, path: str, body: bytes, longest: int
) -> tuple[int, bytes]:
    headers = {"Content-Type": "application/json"} if body else {}
    try:
        connection.request(verb, path, body or None, headers)
    except (BrokenPipeError, ConnectionResetError):
        if connection.sock is None:
            raise
        # It stopped listening, to a body that is too long: it may have said so.
    answer = connection.getresponse()
    return answer.status, answer.read(longest + 1)


def encode(images: np.ndarray, spacing_mm: np.ndarray) -> bytes:
    """A request; every float32 is read back to the same bits.

    Args:
        images: (S, H, W) float32.
        spacing_mm: (2,) float32.
    """
    instance = {"images": images.tolist(), "spacing_mm": spacing_mm.tolist()}
    request = {"signature_name": SIGNATURE, "instances": [instance]}
    return json.dumps(request, allow_nan=False, separators=(",", ":")).encode()


def decode(answer: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays by name in the answer to one study, not checked.

    Of a model with one output TensorFlow Serving leaves out the name: of ours that is
    `scar`.
    """
    (row,) = answer["predictions"]
    named = row if isinstance(row, dict) else {"scar": row}
    return {name: np.array(values) for name, values in named.items()}


def _parsed(content: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _said(content: bytes) -> str:
    """The message in the answer to a refused request."""
    found = _parsed(content)
    if isinstance(found, dict):
        return str(found.get("error") or found.get("detail") or found)
    return content.decode(errors="replace")
