"""Tests of companion.zoo.session: the steps of a training, its rates and what it has used up."""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from tiny_recipes import RECIPE, recipes

from companion import runtime
from companion.zoo.recipes import cosine
from companion.zoo.session import Session

__all__ = ["recipes"]


def test_each_step_comes_with_the_rate_that_it_had():
    chosen = replace(RECIPE, schedule=cosine)
    session = Session(chosen, chosen.examples("train"), num_steps=10)
    seen = []
    for step, rate in session.steps():
        seen.append((step.number, rate))
        assert session.optimizer.param_groups[0]["lr"] == pytest.approx(
            0.01 * cosine(step.number / 10)
        )
    assert seen == [(k + 1, pytest.approx(0.01 * cosine(k / 10))) for k in range(10)]


def test_a_training_has_no_more_steps_than_its_recipe():
    session = Session(RECIPE, RECIPE.examples("train"), num_steps=10**6)
    assert session.num_steps == 69 == len(list(session.steps()))


def test_images_are_counted_over_short_batches_too():
    session = Session(RECIPE, RECIPE.examples("train"))
    sizes = [len(batch) for batch, _ in zip(session.batches, range(25), strict=False)]
    assert [session.images(step) for step in (0, 1, 23, 25)] == [0, 64, 1442, sum(sizes)]


def test_the_best_model_is_the_average_where_there_is_one():
    chosen = replace(RECIPE, ema=0.5)
    session = Session(chosen, chosen.examples("train"), num_steps=3)
    *_, _ = session.steps()
    weights = [next(model.parameters()) for model in (session.model, session.best)]
    assert not torch.equal(*weights)
    plain = Session(RECIPE, RECIPE.examples("train"))
    assert plain.best is plain.model


def test_a_graph_starts_the_losses_of_whole_batches(monkeypatch):
    started = []

    def graphed(objective, batch, allow_unused_input):
        assert objective.training and len(batch[0]) == RECIPE.batch_size and allow_unused_input
        return lambda *values: started.append(len(values[0])) or objective(*values)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    plain = Session(RECIPE, RECIPE.examples("train"), num_steps=24)
    losses = [step.loss for step, _ in plain.steps()]
    session = Session(replace(RECIPE, captured=True), RECIPE.examples("train"), num_steps=24)
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(runtime, "autocast", nullcontext)
    with warnings.catch_warnings(action="ignore"):  # that there is no CUDA
        assert [step.loss for step, _ in session.steps()] == losses
    assert started == 23 * [RECIPE.batch_size]  # the one between them is shorter


def test_on_a_cpu_nothing_is_captured(monkeypatch):
    monkeypatch.delattr(torch.cuda, "make_graphed_callables")
    session = Session(replace(RECIPE, captured=True), RECIPE.examples("train"), num_steps=2)
    assert len(list(session.steps())) == 2
