"""All formats by their names in a trainer's file. A new one is a Reader of its own and a line here."""

from bisect_cli.trainers.readers.csv_table import CsvReader
from bisect_cli.trainers.readers.json_file import JsonReader
from bisect_cli.trainers.readers.jsonl import JsonLinesReader
from bisect_cli.trainers.readers.log_text import LogReader, StderrReader, StdoutReader
from bisect_cli.trainers.readers.tensorboard import TensorBoardReader

FORMATS = {
    "jsonl": JsonLinesReader,
    "csv": CsvReader,
    "json": JsonReader,
    "stdout": StdoutReader,
    "stderr": StderrReader,
    "text": LogReader,
    "tensorboard": TensorBoardReader,
}
