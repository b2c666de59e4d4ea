"""Weights of the published `R50+ViT-B_16.npz` (and of a decoder, where present)."""

import re
from pathlib import Path

import keras
import numpy as np
from scipy.ndimage import zoom

from tfrecords_tools.errors import RefusedError

POSITION_EMBEDDING = "Transformer/posembed_input/pos_embedding"
DECODER_PARTS = ("decoder/", "segmentation_head/")

_RENAMES = (
    (r"^(block\d)_(unit\d+)_", r"\1/\2/"),
    (r"^vit_patching_and_embedding/patch_embedding/", "embedding/"),
    (r"^vit_patching.*/embeddings$", POSITION_EMBEDDING),
    (r"^vit_encoder/ln/", "Transformer/encoder_norm/"),
    (r"^vit_encoder/", "Transformer/"),
    (r"/ln_1/", "/LayerNorm_0/"),
    (r"/ln_2/", "/LayerNorm_2/"),
    (r"/mha/attention_output/", "/MultiHeadDotProductAttention_1/out/"),
    (r"/mha/", "/MultiHeadDotProductAttention_1/"),
    (r"/mlp/dense_1/", "/MlpBlock_3/Dense_0/"),
    (r"/mlp/dense_2/", "/MlpBlock_3/Dense_1/"),
    (r"^decoder_(block\d)_(conv\d)_", r"decoder/\1/\2/"),
    (r"^decoder_conv_more_", "decoder/conv_more/"),
    (r"^head/", "segmentation_head/"),
    (r"/gamma$", "/scale"),
    (r"/beta$", "/bias"),
)
"""Our variable paths, rewritten in this order, are the names in the file."""


def published_name(path: str) -> str:
    """The name in the file of the variable that Keras calls `path`."""
    name = re.sub(
        r"transformer_block_(\d+)",
        lambda match: f"encoderblock_{int(match[1]) - 1}",
        path,
    )
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def resize_position_embedding(rows: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Position embeddings (N, D) for `grid` from those of a square grid.

    A class token in row 0 is dropped; the grid is interpolated linearly between its
    corner tokens, as the original does.

    Raises:
        ValueError: if the rows, with or without a class token, are not a square grid.
    """
    for tokens in (rows[1:], rows):
        side = round(len(tokens) ** 0.5)
        if side and side * side == len(tokens):
            break
    else:
        raise ValueError(f"{len(rows)} rows are not a square grid")
    square = tokens.reshape(side, side, -1)
    factors = (grid[0] / side, grid[1] / side, 1)
    return zoom(square, factors, order=1).reshape(grid[0] * grid[1], -1)


def _open(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: np.float32(archive[name]) for name in archive.files}
    except FileNotFoundError as error:
        raise RefusedError(path, "NOT_A_FILE", "no such weight file") from error
    except Exception as error:  # a damaged archive fails in a dozen ways
        way_out = "a complete R50+ViT-B_16.npz is needed (model.pretrained)"
        raise RefusedError(path, "CORRUPT", f"not a readable npz; {way_out}") from error


def _fit(
    stored: np.ndarray, name: str, variable: keras.Variable, grid: tuple[int, int]
) -> np.ndarray:
    """The stored array in the shape of `variable`; ValueError where it cannot be."""
    if name == POSITION_EMBEDDING:
        stored = resize_position_embedding(stored.reshape(-1, stored.shape[-1]), grid)
    elif stored.ndim == 4 and stored.shape[:3] == (1, 1, 1):
        stored = stored.reshape(-1)  # the stem's norms are stored as (1, 1, 1, C)
    if stored.shape != tuple(variable.shape):
        raise ValueError(f"expected {tuple(variable.shape)}, got {stored.shape}")
    if not np.isfinite(stored).all():
        raise ValueError("has non-finite values")
    return stored


def load_npz(network: keras.Model, path: str | Path) -> list[str]:
    """Loads the weights of an npz file into a TransUNet; all of them, or none.

    A file without a decoder, as published, leaves the decoder and the head untouched.

    Args:
        network: what `build_transunet` returned.
        path: the npz file, under the names of the published checkpoint.

    Returns:
        The names that were loaded.

    Raises:
        RefusedError: if the file is missing, damaged or of another architecture.
    """
    path = Path(path)
    arrays = _open(path)
    has_decoder = any(name.startswith(DECODER_PARTS) for name in arrays)
    height, width = network.input_shape[1:3]
    values = {}
    for variable in network.weights:
        name = published_name(variable.path)
        if name.startswith(DECODER_PARTS) and not has_decoder:
            continue
        if "seed_generator" in name:
            continue
        if name not in arrays:
            reason = f"lacks {name!r}; is it the file of this preset?"
            raise RefusedError(path, "SHAPE_MISMATCH", reason)
        try:
            fitted = _fit(arrays[name], name, variable, (height // 16, width // 16))
        except ValueError as error:
            raise RefusedError(path, "SHAPE_MISMATCH", f"{name}: {error}") from error
        values[name] = (variable, fitted)
    for variable, value in values.values():
        variable.assign(value)
    return [*values]
