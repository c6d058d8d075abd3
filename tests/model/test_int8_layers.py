"""Linear layers with weights of one byte: exact whole numbers, whoever is beside a row, and nothing left in float32."""

import pytest
import torch
from torch import nn

from model.errors import InputError
from model.int8_layers import Int8Linear, check_int8, empty_linears, fill_linears
from model.loading import choose_dtype, load_weights

CPU = torch.device("cpu")


def build_layer(weight: torch.Tensor, *, bias: bool = False) -> Int8Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    layer = Int8Linear(linear)
    layer.pack(weight)
    return layer


@torch.inference_mode()
def test_its_products_are_those_of_whole_numbers():
    generator = torch.Generator().manual_seed(0)
    weight, rows = torch.randn(70, 130, generator=generator), torch.randn(9, 130, generator=generator)
    # One channel that towers over the others is what language models have.
    rows[:, 3] *= 40
    whole_weight = (weight / weight.abs().amax(dim=1, keepdim=True) * 64).round().double()
    whole_rows = (rows / (rows.abs().amax(dim=1, keepdim=True) / 127)).round().double()
    scales = weight.abs().amax(dim=1) / 64 * (rows.abs().amax(dim=1, keepdim=True) / 127)

    layer = build_layer(weight, bias=True)

    expected = (whole_rows @ whole_weight.T * scales).float() + layer.bias
    torch.testing.assert_close(layer(rows), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(layer(rows.unflatten(0, (3, 3))), layer(rows).unflatten(0, (3, 3)))


@torch.inference_mode()
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_are_not_cut_off(sign):
    """As they are with weights of 8 bits on a CPU without VNNI."""
    layer = build_layer(torch.full((40, 256), 0.5) * sign)

    torch.testing.assert_close(layer(torch.full((6, 256), 3.0)), torch.full((6, 40), sign * 384.0))


@torch.inference_mode()
def test_a_row_gives_the_same_bits_whatever_is_beside_it():
    generator = torch.Generator().manual_seed(1)
    layer = build_layer(torch.randn(96, 192, generator=generator))
    rows = torch.randn(33, 192, generator=generator)
    expected = layer(rows)
    rows[1:] *= 1000

    assert torch.equal(layer(rows)[0], expected[0])
    assert torch.equal(layer(rows[:1]), expected[:1])


@torch.inference_mode()
def test_rows_and_weights_of_zeros_give_zeros():
    layer = build_layer(torch.zeros(8, 16))

    assert torch.equal(layer(torch.ones(2, 16)), torch.zeros(2, 8))
    assert torch.equal(build_layer(torch.ones(8, 16))(torch.zeros(2, 16)), torch.zeros(2, 8))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return folder


def test_all_layers_of_tower_and_language_model_are_held_in_int8(folder):
    loaded = load_weights(str(folder), device=CPU, dtype=torch.float32, is_int8=True)

    counts = {
        part: [
            sum(type(module) is kind for module in getattr(loaded, part).modules()) for kind in (Int8Linear, nn.Linear)
        ]
        for part in ("vision_model", "language_model", "qformer")
    }
    # What gives tokens stays as it is, and so does the Q-Former.
    assert counts["vision_model"] == [8, 0]
    assert counts["language_model"] == [21, 1]
    assert counts["qformer"][0] == 0
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_weights_that_do_not_fit_are_refused(folder, tmp_path):
    config = (folder / "config.json").read_text()
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")

    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(InputError, match="unexpected keys: language_model"):
        load_weights(str(tmp_path), device=CPU, dtype=torch.float32, is_int8=True)


def test_what_is_missing_or_of_another_shape_is_named(model, folder):
    from copy import deepcopy

    hollow = deepcopy(model)
    empty_linears(hollow)
    layer = hollow.language_model.model.layers[0]
    layer.mlp.up_proj.out_features += 1
    layer.mlp.extra_layers = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"a": nn.Linear(4, 4)})])})
    empty_linears(hollow)

    names = fill_linears(hollow, [folder / "model.safetensors"])

    prefix = "language_model.model.layers.0.mlp"
    assert names["mismatched"] == {f"{prefix}.up_proj.weight"}
    assert names["missing"] == {f"{prefix}.extra_layers.layers.0.a.weight"}
    assert len(names["filled"]) == 28


def test_devices_that_it_is_not_for_are_refused(monkeypatch):
    with pytest.raises(InputError, match=r"int8 on device 'cuda:0'; expected a CPU; .* set model\.device to cpu"):
        check_int8(torch.device("cuda:0"))
    assert choose_dtype("int8", device=CPU) is torch.float32
    monkeypatch.setattr("model.int8_layers._BACKEND", "not there")
    with pytest.raises(InputError, match="expected an x86 CPU"):
        choose_dtype("int8", device=CPU)
