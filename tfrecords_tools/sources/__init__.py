"""One module a source; each yields `tfrecords_tools.study.Study`."""
