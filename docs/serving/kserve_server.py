"""Serves an exported model over KServe's V1 protocol, from one file.

    python kserve_server.py --model_dir served/jdl --model_name jdl --http_port 8080

Needs `pip install 'kserve==0.21.*' 'tensorflow==2.21.*'` in an environment of its own,
and neither jdl_keras nor Keras. Requests are those of TensorFlow Serving:

    POST /v1/models/jdl:predict
    {"signature_name": "study", "instances": [{"images": [[[...]]], "spacing_mm": [1.5, 1.5]}]}
"""  # noqa: E501

import argparse
import asyncio
import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from kserve import Model, ModelServer, model_server
from kserve.errors import InvalidInput

AT_ONCE = 2
"""Calls that are computed at the same time; TensorFlow spreads each over the cores."""


class ServedModel(Model):
    """A version of an exported model.

    Args:
        name: of the model.
        folder: of the version.
    """

    def __init__(self, name: str, folder: Path):
        super().__init__(name)
        self._loaded = tf.saved_model.load(str(folder))
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._warm_up()
        self.ready = True

    def _warm_up(self) -> None:
        """The first call of a graph takes many times as long as the next."""
        for name in {"serving_default", "study"} & set(self._loaded.signatures):
            function = self._loaded.signatures[name]
            axes = function.structured_input_signature[1]["images"].shape.rank
            square = np.arange(1024, dtype=np.float32).reshape(32, 32)
            images = square.reshape((1,) * (axes - 2) + square.shape)
            function(images=tf.constant(images), spacing_mm=tf.constant([[2.0, 2.0]]))

    async def predict(
        self, payload: object, headers: Mapping[str, str] | None = None
    ) -> dict:
        """The answer to one request, computed beside the loop that takes others."""
        async with self._turns:
            return await asyncio.to_thread(self._answer, payload)

    def _answer(self, payload: object) -> dict:
        if not isinstance(payload, dict):
            raise InvalidInput("body: expected a JSON object of Content-Type JSON")
        if extra := set(payload) - {"signature_name", "instances"}:
            raise InvalidInput(f"{shown(extra)}: not known; expected instances")
        name = payload.get("signature_name", "serving_default")
        if not isinstance(name, str) or name not in self._loaded.signatures:
            known = sorted(self._loaded.signatures)
            raise InvalidInput(f"signature_name: expected one of {known}")
        function = self._loaded.signatures[name]
        _, specs = function.structured_input_signature
        columns = to_columns(payload.get("instances"), set(specs))
        inputs = {key: to_tensor(key, columns[key], specs[key]) for key in specs}
        try:
            found = function(**inputs)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(assertion(error.message) or unread(specs)) from None
        except UnicodeDecodeError:  # the message quotes a record, which is no text
            raise InvalidInput(unread(specs)) from None
        outputs = {key: value.numpy() for key, value in found.items()}
        rows = zip(*outputs.values(), strict=True)
        return {"predictions": [dict(zip(outputs, row, strict=True)) for row in rows]}


def to_columns(instances: object, names: set[str]) -> dict[str, list]:
    """The values of every input, one for each instance."""
    if not isinstance(instances, list) or not instances:
        raise InvalidInput("instances: expected a list of at least one object")
    for index, one in enumerate(instances):
        if not isinstance(one, dict):
            raise InvalidInput(f"instances: expected an object at {index}")
        if missing := names - set(one):
            raise InvalidInput(f"{shown(missing)}: missing in instance {index}")
        if extra := set(one) - names:
            reason = f"not known; expected {sorted(names)}"
            raise InvalidInput(f"{shown(extra)}: {reason}, in instance {index}")
    return {name: [one[name] for one in instances] for name in names}


def to_tensor(name: str, values: list, spec: tf.TensorSpec) -> tf.Tensor:
    """The tensor of an input; strings are bytes in base64, as `{"b64": "..."}`."""
    if spec.dtype == tf.string:
        return tf.constant([to_bytes(name, one) for one in values])
    try:
        array = np.array(values)
    except ValueError:
        reason = "ragged: instances, rows or columns of different lengths"
        raise InvalidInput(f"{name}: {reason}") from None
    if array.dtype.kind not in "iuf":
        raise InvalidInput(f"{name}: expected numbers only")
    fits = spec.shape.rank == array.ndim and all(
        wanted in {None, size}
        for wanted, size in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        expected = ["?" if size is None else size for size in spec.shape]
        reason = f"expected shape ({', '.join(map(str, expected))}), got {array.shape}"
        raise InvalidInput(f"{name}: {reason}")
    with np.errstate(over="ignore"):  # the model refuses infinity, and says where
        return tf.constant(array.astype(spec.dtype.as_numpy_dtype))


def to_bytes(name: str, value: object) -> bytes:
    """What base64 stands for."""
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (TypeError, KeyError, ValueError, IndexError, binascii.Error):
        raise InvalidInput(f'{name}: expected {{"b64": BASE64}}') from None


def assertion(message: str) -> str:
    """What a check in the graph says, without what TensorFlow puts around it."""
    found = re.search(r"assertion failed: (.*)", message)
    return " ".join(re.sub(r"\] \[|^\[|\]$", " ", found[1]).split()) if found else ""


def unread(names: Iterable[str]) -> str:
    """For what fails before any check; TensorFlow's message may hold what was sent."""
    return f"{shown(names)}: not what the model can read"


def shown(names: Iterable[str]) -> str:
    """Names of whoever asks, in few characters."""
    return ", ".join(sorted(map(str, names)))[:100]


class Limits:
    """Refuses bodies that are too long, and too many calls at once, before reading.

    Args:
        app: what is protected.
        most_bytes: of a body.
        most_calls: that have come and are not answered.
    """

    def __init__(self, app: Callable[..., Awaitable], most_bytes: int, most_calls: int):
        self._app, self._most_bytes, self._most_calls = app, most_bytes, most_calls
        self._calls = 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """One call of ASGI."""
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._app(scope, receive, send)
            return
        if self._calls >= self._most_calls:
            await refuse(receive, send, 503, "busy; try again")
            return
        self._calls += 1
        try:
            await self._bounded(scope, receive, send)
        finally:
            self._calls -= 1

    async def _bounded(self, scope: dict, receive: Callable, send: Callable) -> None:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # whoever asked has gone
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self._most_bytes:
                parts.clear()
                reason = f"body: over {self._most_bytes} bytes"
                await refuse(receive if more else None, send, 413, reason)
                return
        whole = {"type": "http.request", "body": b"".join(parts), "more_body": False}
        parts.clear()
        told = [whole]

        async def replay() -> dict:
            return told.pop() if told else await receive()

        await self._app(scope, replay, send)


async def refuse(
    receive: Callable | None, send: Callable, status: int, reason: str
) -> None:
    """Answers once the rest of the body is thrown away: before, nobody would listen.

    Args:
        receive: gives the rest; None if all has come.
        send: takes the answer.
        status: of HTTP.
        reason: for a person.
    """
    while receive:
        message = await receive()
        if message["type"] != "http.request":
            return
        if not message.get("more_body", False):
            break
    headers = [(b"content-type", b"application/json")]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    content = json.dumps({"error": reason}).encode()
    await send({"type": "http.response.body", "body": content})


def newest(folder: Path) -> Path:
    """The version of a model with the highest number, or the folder if it is one."""
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [path for path in folder.iterdir() if path.name.isdecimal()]
    if not versions:
        raise SystemExit(f"{folder}: no version of an exported model here")
    return max(versions, key=lambda path: int(path.name))


def main() -> None:
    """Command line; KServe's own options are known too."""
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--most_mib", type=int, default=128, help="of a body")
    parser.add_argument("--most_calls", type=int, default=16, help="waiting")
    arguments = parser.parse_args()
    limits = {
        "most_bytes": arguments.most_mib * 2**20,
        "most_calls": arguments.most_calls,
    }
    model_server.app.add_middleware(Limits, **limits)
    model = ServedModel(arguments.model_name, newest(arguments.model_dir))
    ModelServer(http_port=arguments.http_port, enable_grpc=False).start([model])


if __name__ == "__main__":
    main()
