"""The message from the myocardium network to the scar network."""

import keras
from keras import KerasTensor


def pass_message(image: KerasTensor, myocardium: KerasTensor) -> KerasTensor:
    """Masks the image softly by the myocardium's probability map.

    Gradients of the scar loss flow through the product into the myocardium network.

    Args:
        image: (B, H, W, 1) in [0, 1].
        myocardium: (B, H, W, 1) probability map.

    Returns:
        (B, H, W, 1), the element-wise product.
    """
    return keras.layers.Multiply(name="message")([image, myocardium])
