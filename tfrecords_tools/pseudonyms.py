"""Keyed pseudonyms: without the key, an identifier cannot be guessed and confirmed."""

import hashlib
import hmac

PUBLIC_KEY = b"jdl_keras: cases of public data sets carry no patient identifier"
"""Key for public or synthetic data, so that everyone gets the same split."""


def pseudonym(identifier: str, key: bytes) -> str:
    """16 hexadecimal digits that stand for `identifier` under `key`."""
    return hmac.new(key, identifier.encode(), hashlib.sha256).hexdigest()[:16]
