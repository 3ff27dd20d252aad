"""The ledger of experiments: what the book says after training, with what else could explain it.

An equation of the book is checked by a second computation, and an experiment by a second condition: another
learning rate, more steps, another initialization. A topic module trains under each condition with several seeds; its
record keeps what every training gave; an entry says what was asked, compared and held equal, what else was tried, and
what the chapter may say. `python -m companion experiment NAME` makes a record anew.
"""

from companion.experiments.base import Experiment, Record, Value, record_of
from companion.experiments.ledger import EXPERIMENTS, Entry, entries, run

__all__ = ["EXPERIMENTS", "Entry", "Experiment", "Record", "Value", "entries", "record_of", "run"]
