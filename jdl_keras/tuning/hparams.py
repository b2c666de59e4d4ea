"""TensorBoard's HParams: a table, parallel coordinates and scatter plots over trials.

The files are written whole, so that they survive a kill, and without TensorBoard's own
writer, which puts the machine's name into theirs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from jdl_keras.run_folder import RunFolder
from jdl_keras.tuning.results import FinishedTrial
from jdl_keras.tuning.search import Range, trial_folder
from tfrecords_tools.files import whole_file

FILE = "events.out.tfevents.0.hparams"
SCORE = "scar_dice"


def write_hparams(
    out: Path, space: Mapping[str, Range], trials: Sequence[FinishedTrial]
) -> None:
    """Writes the space into `out`, and each trial's values and score beside its curves.

    Args:
        out: folder of the search: `tensorboard --logdir` shows it.
        space: by dotted key.
        trials: those that are over; what is written already stays.
    """
    if not (out / FILE).is_file():
        params = [api.HParam(key, _domain(scope)) for key, scope in space.items()]
        metrics = [api.Metric(SCORE, display_name="scar Dice on validation")]
        _write(out / FILE, [api.hparams_config_pb(params, metrics)])
    for trial in trials:
        folder = RunFolder(trial_folder(out, trial.number)).tensorboard
        if not (folder / FILE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / FILE, _session(trial))


def _domain(scope: Range) -> api.RealInterval | api.Discrete:
    if scope.choices is not None:
        return api.Discrete(scope.choices)
    return api.RealInterval(float(scope.low or 0), float(scope.high or 0))


def _session(trial: FinishedTrial) -> list[Summary]:
    start = api.hparams_pb(trial.values, f"trial {trial.number}", 0.0)
    score = Summary.Value(tag=SCORE, simple_value=trial.outcome.scar_dice)
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    ended = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(session_end_info=end)
        ),
        tensor=metadata.NULL_TENSOR,
    )
    return [start, Summary(value=[score]), Summary(value=[ended])]


def _write(path: Path, summaries: Sequence[Summary]) -> None:
    events = [Event(file_version="brain.Event:2")]
    events += [Event(summary=summary) for summary in summaries]
    with whole_file(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()
