import keras
import keras_hub

from jdl_keras.benchmarking.arithmetic import forward_flop


def test_convolution_by_hand():
    image = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)  # (4, 3, 4)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    network = keras.Model(image, keras.layers.Conv2D(2, 1)(x))
    # 3 x 3 x 3 x 4 = 108 weights at 4 x 3 pixels, 4 x 2 = 8 weights at as many
    assert forward_flop(network) == 2 * 12 * (108 + 8)


def test_transformer_by_hand_inside_a_network():
    transformer = keras_hub.models.ViTBackbone(
        image_shape=(2, 2, 3),
        patch_size=1,
        num_layers=3,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=16,
        use_class_token=False,
    )
    image = keras.Input((2, 2, 3))
    inner = keras.Model(image, transformer(image))
    outer = keras.Model(image, inner(image))
    # 4 tokens of width 8. Embedding: 4 x 3 x 8 = 96. A block: four projections of
    # 4 x 8 x 8 = 256, two layers of 4 x 8 x 16 = 512, two products of 4 x 4 x 8 = 128.
    assert forward_flop(outer) == 2 * (96 + 3 * (4 * 256 + 2 * 512 + 2 * 128))
