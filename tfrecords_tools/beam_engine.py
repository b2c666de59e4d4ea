"""Reading studies in a pipeline of Apache Beam, for archives beyond one machine."""

import importlib.util
import shlex
from collections.abc import Sequence
from pathlib import Path

from tfrecords_tools.errors import RefusedError
from tfrecords_tools.quiet_tensorflow import load_tensorflow
from tfrecords_tools.shards import write_records
from tfrecords_tools.sources.source import Item
from tfrecords_tools.study_import import Engine
from tfrecords_tools.workers import Outcomes, Work


def beam_engine(runner: str, options: str, local: Engine) -> Engine:
    """An engine whose studies are read by the workers of a runner.

    They spool into the stage on a file system that all of them share; `local` then
    finds the studies there and reads again only those that were refused, for the
    messages. So the record set is the one that `local` alone would make.

    Args:
        runner: such as `DirectRunner`, `FlinkRunner`, `SparkRunner`, `DataflowRunner`.
        options: of the runner, as on a command line.
        local: what finishes the work.

    Raises:
        RefusedError: without Apache Beam.
    """
    if importlib.util.find_spec("apache_beam") is None:
        reason = "beam needs Apache Beam: pip install 'jdl-keras[beam]'"
        raise RefusedError("engine", "CONFIG", reason)

    def engine(work: Work, items: Sequence[Item], stage: Path) -> Outcomes:
        load_tensorflow()
        _run_pipeline(work, items, stage, [f"--runner={runner}", *shlex.split(options)])
        yield from local(work, items, stage)

    return engine


def _run_pipeline(
    work: Work, items: Sequence[Item], stage: Path, options: list[str]
) -> None:
    import apache_beam as beam
    from apache_beam.coders import FastPrimitivesCoder
    from apache_beam.options.pipeline_options import PipelineOptions

    coder = FastPrimitivesCoder()
    # The list goes by file: a job may not be larger than a few megabytes.
    listed = stage / "items"
    write_records(listed, map(coder.encode, items))
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(options))
    except (ValueError, ImportError, AttributeError) as error:
        raise RefusedError("runner", "CONFIG", " ".join(str(error).split())) from None
    with pipeline:
        listing = beam.io.ReadFromTFRecord(str(listed), coder=coder)
        _ = pipeline | listing | beam.Reshuffle() | beam.Map(work)
