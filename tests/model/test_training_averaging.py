"""The moving average of weights: what it holds, where it stands in, and that it is what is written."""

import numpy as np
import torch
from torch import nn
from training_material import make_values, write_small_model
from training_pairs import write_pairs

from model.training import trainer
from model.training.averaging import WeightAverage
from model.training.recipe import TrainingConfig


def test_the_average_follows_the_weights():
    module = nn.BatchNorm1d(2)
    average = WeightAverage(module.state_dict(), decay=0.75)
    assert average.names == ["weight", "bias", "running_mean", "running_var"]
    expected = None
    for value in (4.0, 8.0, 0.0):
        nn.init.constant_(module.weight, value)
        module.running_mean.fill_(-value)
        average.update(module.state_dict())
        expected = value if expected is None else 0.75 * expected + 0.25 * value
    assert expected == 3.75
    torch.testing.assert_close(average.averages[0], torch.full((2,), expected))
    torch.testing.assert_close(average.averages[2], torch.full((2,), -expected))


def test_the_average_stands_in_and_the_weights_come_back():
    module = nn.Linear(2, 2)
    average = WeightAverage(module.state_dict(), decay=0.5)
    before = module.weight.detach().clone()
    nn.init.constant_(module.weight, 9.0)
    with average.put_in_place(module.state_dict()):
        assert torch.equal(module.weight, before)
    assert torch.equal(module.weight, torch.full((2, 2), 9.0))


def test_what_is_written_is_the_average(tmp_path, monkeypatch):
    write_pairs(tmp_path / "pairs", n_pairs=4)
    write_small_model(tmp_path / "small")
    steps = []
    update = WeightAverage.update

    def remember(self, state):
        update(self, state)
        steps.append(state["model.query_tokens"].clone())

    monkeypatch.setattr(WeightAverage, "update", remember)
    config = TrainingConfig.model_validate(make_values(model=tmp_path / "small", n_steps=3, averaging_decay=0.5))
    result = trainer.train(config, output=tmp_path / "out", data_root=tmp_path)
    expected = 0.25 * steps[0] + 0.25 * steps[1] + 0.5 * steps[2]
    written = trainer.DeltaVlmForConditionalGeneration.from_pretrained(result.folder).query_tokens
    np.testing.assert_allclose(written.detach().numpy(), expected.numpy(), rtol=1e-5, atol=1e-7)
    assert not torch.equal(steps[0], steps[2])
