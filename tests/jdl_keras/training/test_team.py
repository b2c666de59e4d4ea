"""What the chief says counts for all."""

import pytest

from jdl_keras.training.team import ALONE, Team
from tfrecords_tools.errors import RefusedError


def test_one_alone_is_its_own_chief():
    assert ALONE.is_chief
    assert ALONE.from_chief(lambda: [1]) == [1]
    ALONE.check_same({"seed": 0})


def test_worker_with_another_setting_is_refused():
    class Worker(Team):
        is_chief = False

        def from_chief(self, make):
            return {"training.epochs": 12, "seed": 0}

    Worker().check_same({"training.epochs": 12, "seed": 0})
    with pytest.raises(
        RefusedError, match="seed: OTHER_RUN: the chief has 0.* 1; give"
    ):
        Worker().check_same({"training.epochs": 12, "seed": 1})
