"""Keyed pseudonyms: without the key, an identifier cannot be guessed and confirmed."""

import hashlib
import hmac
import re
import secrets
import sys
from pathlib import Path

from tfrecords_tools import files
from tfrecords_tools.errors import RefusedError

PUBLIC_KEY = b"jdl_keras: cases of public data sets carry no patient identifier"
"""Key for public or synthetic data, so that everyone gets the same split."""

_KEY_BYTES = 32


def pseudonym(identifier: str, key: bytes) -> str:
    """16 hexadecimal digits that stand for `identifier` under `key`."""
    # File names of other encodings reach us with surrogates in place of their bytes.
    content = identifier.encode(errors="surrogateescape")
    return hmac.new(key, content, hashlib.sha256).hexdigest()[:16]


def load_key(path: Path) -> bytes:
    """The key in a file; a new one, that only its owner can read, if there is none.

    Whoever has the key can find out whether a known patient is in a record set, and
    without it the same patient gets another pseudonym: keep it, apart from the records.

    Raises:
        RefusedError: `KEY` if the file holds something else.
        OSError: if the system refuses.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, secrets.token_hex(_KEY_BYTES) + "\n", private=True)
    if not path.is_file():
        raise RefusedError(path, "KEY", "not a file")
    with path.open("rb") as file:
        text = file.read(2 * _KEY_BYTES + 3).decode("latin-1").strip()
    if not re.fullmatch(f"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        reason = f"expected {2 * _KEY_BYTES} hexadecimal digits, as build writes them"
        raise RefusedError(path, "KEY", reason)
    if path.stat().st_mode & 0o077:
        print(f"WARNING {path}: KEY: others can read it; chmod 600", file=sys.stderr)
    return bytes.fromhex(text)
