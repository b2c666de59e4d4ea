"""Loads TensorFlow without the lines that its libraries print on every start.

They are written to the file descriptor before any log level is read, so setting
`TF_CPP_MIN_LOG_LEVEL` is not enough (TensorFlow issue 100442).
"""

import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Imports TensorFlow and finds its devices; on failure what it said is printed."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
