"""Sinks that record scalars, images and configs of runs."""

from delira_nca.logging.event_file import TensorboardXSink
from delira_nca.logging.protocol import MetricSink
from delira_nca.logging.text_files import CSVSink, JSONLSink, read_csv, read_jsonl

__all__ = ["CSVSink", "JSONLSink", "MetricSink", "TensorboardXSink", "read_csv", "read_jsonl"]
