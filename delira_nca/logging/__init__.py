"""Where numbers go: sinks for scalars, pictures and configs; one protocol, no global registry."""

from delira_nca.logging.csv_table import CSVSink, read_csv
from delira_nca.logging.event_file import TensorboardXSink
from delira_nca.logging.jsonl import JSONLSink, read_jsonl
from delira_nca.logging.protocol import MetricSink

__all__ = ["CSVSink", "JSONLSink", "MetricSink", "TensorboardXSink", "read_csv", "read_jsonl"]
