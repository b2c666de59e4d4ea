"""Has studies predicted by a server: `python -m jdl_keras.serving.client`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfrecords_tools.errors import DONE, REFUSED, RefusedError, run_command

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from jdl_keras.serving.servers import Server


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit code is 2 also if only some studies were refused."""
    refused: list[int] = []
    code = run_command(lambda: refused.append(_send(argv)))
    return REFUSED if code == DONE and any(refused) else code


def _send(argv: Sequence[str] | None) -> int:
    """How many studies were refused."""
    from tfrecords_tools.command_line import parse

    arguments = parse(_parser(), argv)

    from jdl_keras.inference.input_arguments import open_input
    from jdl_keras.serving.model_card import read_card
    from jdl_keras.serving.send_studies import send_studies

    card = read_card(arguments.model_card)
    server = _server(arguments)
    server.check()  # before studies are looked for, which may take long
    if server.version not in {None, card.version}:
        reason = f"is of version {card.version}, the server has {server.version}; "
        reason += f"give the card of that one, or --version {card.version}"
        raise RefusedError(arguments.model_card, "CONFIG", reason)
    made_by = {
        "model": arguments.model,
        "version": card.version,
        "weights_sha256": card.weights_sha256,
        "mask_rule": dataclasses.asdict(card.mask_rule),
    }
    studies = open_input(arguments)
    out, again = arguments.out, arguments.overwrite
    done, refused = send_studies(server, card.mask_rule, studies, out, made_by, again)
    print(f"predicted {done}, refused {refused}: {out}")
    return refused


def _parser() -> "ArgumentParser":
    from jdl_keras.inference.input_arguments import add_input_options, add_places
    from tfrecords_tools.command_line import make_parser

    parser = make_parser(
        "jdl_keras.serving.client",
        "Sends studies to a served model and writes its masks.",
        config=True,
    )
    add_places(parser)
    rest = "address of a server of the V1 protocol, such as http://127.0.0.1:8501"
    parser.add_argument("--url", type=str | None, help=rest)
    grpc = "HOST:PORT of the gRPC protocol of TensorFlow Serving, in place of --url"
    parser.add_argument("--grpc", type=str | None, help=grpc)
    parser.add_argument("--model", type=str, required=True, help="name of the model")
    version = "version of the model (default: the newest)"
    parser.add_argument("--version", type=int | None, help=version)
    card = "model_card.json of the exported model: it says how masks are made"
    parser.add_argument("--model_card", type=Path, required=True, help=card)
    seconds = "time limit for the answer to one study"
    parser.add_argument("--timeout_seconds", type=float, default=120.0, help=seconds)
    tries = "further tries while the server is unavailable"
    parser.add_argument("--retries", type=int, default=3, help=tries)
    certificates = "certificates to check the server by; makes --grpc encrypted"
    parser.add_argument("--ca_file", type=Path | None, help=certificates)
    add_input_options(parser)
    return parser


def _server(arguments: "Namespace") -> "Server":
    if (arguments.url is None) == (arguments.grpc is None):
        raise RefusedError("url", "CONFIG", "give either --url or --grpc")
    if arguments.timeout_seconds <= 0 or arguments.retries < 0:
        reason = "expected a positive time limit and no negative number of retries"
        raise RefusedError("timeout_seconds, retries", "CONFIG", reason)
    if arguments.ca_file and not arguments.ca_file.is_file():
        raise RefusedError(arguments.ca_file, "NOT_A_FILE", "no such regular file")
    names = ("model", "version", "timeout_seconds", "retries", "ca_file")
    options = {name: arguments[name] for name in names}
    if arguments.url is not None:
        from jdl_keras.serving.over_rest import RestServer

        return RestServer(arguments.url, **options)
    from jdl_keras.serving.over_grpc import GrpcServer

    return GrpcServer(arguments.grpc, **options)


if __name__ == "__main__":
    sys.exit(main())
