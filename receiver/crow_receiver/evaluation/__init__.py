"""How well an engine does on frames of which people have said what they show."""

from crow_receiver.evaluation.dataset import DataSet, load_dataset
from crow_receiver.evaluation.picture import picture
from crow_receiver.evaluation.report import Report, report_of, summary
from crow_receiver.evaluation.run import Answer, run

__all__ = ["Answer", "DataSet", "Report", "load_dataset", "picture", "report_of", "run", "summary"]
