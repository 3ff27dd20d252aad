"""What makes the shipped weights and uses them: recipes, trainings, records, and files with cards.

`pretrained(name)` gives a trained model, `sample(name)` draws from it, `evaluate(name)` measures it
again, and `train(name)` trains it. `python -m companion` does the same from a shell.
"""

from companion.zoo.pretrained import pretrained, sample
from companion.zoo.runs import evaluate, train

__all__ = ["evaluate", "pretrained", "sample", "train"]
