import keras
import numpy as np

from jdl_keras.training.fused_adam import FusedAdam

SHAPES = {"kernel": (3, 4), "bias": (5,), "scale": ()}


def after_updates(optimizer_class):
    """The optimizer, and all values after three updates at a rate that changes."""
    random = np.random.default_rng(0)
    variables = [
        keras.Variable(random.normal(size=shape), dtype="float32", name=name)
        for name, shape in SHAPES.items()
    ]
    rate = keras.optimizers.schedules.CosineDecay(0.1, 5)
    optimizer = optimizer_class(rate, epsilon=1e-3, name="adam")
    optimizer.build(variables)
    for _ in range(3):
        gradients = [random.normal(size=v.shape).astype("float32") for v in variables]
        optimizer.apply(gradients, variables)
    return optimizer, [np.array(v) for v in (*variables, *optimizer.variables)]


def test_it_is_adam():
    plain, expected = after_updates(keras.optimizers.Adam)
    fused, found = after_updates(FusedAdam)
    # A run that was begun with the one goes on with the other.
    assert [v.path for v in fused.variables] == [v.path for v in plain.variables]
    # The same formula, but 1 - 0.999 is taken in float32: 1.3e-5 less than 0.001. The
    # weights move by about 0.2 and differ by 1e-5 of that; without the bias correction
    # it would be several times as much.
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=3e-6)
