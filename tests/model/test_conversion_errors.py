"""Files that are no checkpoint, not the original's, or do not belong together: found, expected, what to do."""

import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from original_files import settle
from safetensors.torch import save_file

from flows.cli import main as cli
from model.conversion.checkpoints import find_weight_files, read_weight_file
from model.conversion.converting import convert_model
from model.conversion.plan import describe_missing
from model.errors import InputError
from model.inspection import inspect_model


class Payload:
    """Runs a command when it is unpickled by a loader that allows code."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"model": {"a": torch.ones(2)}, "more": Payload(tmp_path / "ran")}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"code\.pth holds more than data: it asks for \w+\.system, and nothing"):
        read_weight_file(tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"bare\.pth .*cannot be read"):
        read_weight_file(tmp_path / "bare.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("is_old_format", [False, True])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_named_with_its_size(tmp_path, kept, is_old_format):
    torch.save({"a": torch.ones(5000)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not is_old_format)
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(
        ValueError, match=rf"w\.pth \({int(len(content) * kept)} bytes\) cannot be read.*fetch it again"
    ):
        read_weight_file(tmp_path / "w.pth")


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_so_is_one_of_safetensors(tmp_path, kept):
    save_file({"a": torch.ones(5000)}, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"w\.safetensors \(\d+ bytes\) cannot be read.*fetch it again"):
        read_weight_file(tmp_path / "w.safetensors")


def test_other_files_are_told_apart_from_weights(tmp_path):
    (tmp_path / "w.txt").write_text("weights")
    torch.save({"epoch": 3, "model": [1, 2]}, tmp_path / "log.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"w\.txt ends in '\.txt'; expected weights ending in \.safetensors"):
        read_weight_file(tmp_path / "w.txt")
    with pytest.raises(ValueError, match=r"log\.pth holds no state dict but epoch, model; expected tensors by name"):
        read_weight_file(tmp_path / "log.pth")
    with pytest.raises(ValueError, match=r"list\.pth holds no state dict but list"):
        read_weight_file(tmp_path / "list.pth")
    with pytest.raises(InputError, match="no file or folder at"):
        find_weight_files(tmp_path / "absent")


def test_a_folder_gives_its_weights_once(tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "training_args.bin").touch()
    assert find_weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    (tmp_path / "model-2.safetensors").touch()
    assert [file.name for file in find_weight_files(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-3.safetensors"}}))
    with pytest.raises(InputError, match=r"lacks 1 of 1 weight files, first model-3\.safetensors"):
        find_weight_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="expected JSON with a weight_map"):
        find_weight_files(tmp_path)


def test_missing_parts_are_named_with_where_they_come_from():
    names = [f"vision_model.encoder.layers.{index}.mlp.fc1.weight" for index in (0, 1, 2, 5)]
    text = describe_missing([*names, "language_model.lm_head.weight", "vision_model.post_layernorm.bias"])
    assert "vision_model.encoder.layers.0-2, 5: from eva_vit_g.pth (--vision)" in text
    assert "language_model.lm_head.weight: from a Vicuna-7B folder (--language-model)" in text
    assert "vision_model.post_layernorm.bias: from the original's checkpoint_best.pth" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision": None}, r"missing vision_model\.encoder\.layers\.0-2, .*eva_vit_g\.pth \(--vision\)"),
        ({"language_model": None}, r"missing language_model: from a Vicuna-7B folder \(--language-model\)"),
        ({"vision_heads": None}, r"width 32: heads of the original's width 88 do not fit.*--vision-heads"),
        ({"vision_heads": 5}, r"width 32: 5 heads do not fit.*--vision-heads"),
        ({"qformer_heads": None}, r"width 24: heads of the original's width 64 do not fit.*--qformer-heads"),
        ({"dtype": "int4"}, r"dtype 'int4'; expected float32, bfloat16, float16; correct --dtype"),
        ({"qformer_tokenizer": "absent/x/y"}, r"--qformer-tokenizer: no file or folder absent/x/y"),
        ({"checkpoint": "absent.pth"}, r"CHECKPOINT: no file or folder absent\.pth"),
    ],
)
def test_settings_that_make_no_model(originals, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        convert_model(settle(originals, **changes), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_models_are_refused(originals, tmp_path):
    settings = settle(originals)
    bert = {"bert.embeddings.word_embeddings.weight": torch.ones(3, 3), "bert.pooler.dense.bias": torch.ones(3)}
    torch.save(bert, tmp_path / "bert.pth")
    with pytest.raises(ValueError, match=r"2 of its 2 tensors have names that the original does not know \(bert\."):
        convert_model(replace(settings, checkpoint=str(tmp_path / "bert.pth")), output=tmp_path / "out")
    with pytest.raises(ValueError, match=r"names that the original does not know.*expected the original's vision"):
        convert_model(replace(settings, vision=str(originals.checkpoint)), output=tmp_path / "out")
    with pytest.raises(ValueError, match=r"expected mask_decoder\.\* alone"):
        convert_model(replace(settings, mask_checkpoint=str(originals.checkpoint)), output=tmp_path / "out")
    with pytest.raises(ValueError, match=r"no vocab\.txt at"):
        convert_model(replace(settings, qformer_tokenizer=str(tmp_path)), output=tmp_path / "out")
    with pytest.raises(ValueError, match=r"has 37 words with \[DEC\]; expected 16, the rows of the Q-Former's"):
        convert_model(replace(settings, qformer_tokenizer=str(originals.language_model)), output=tmp_path / "out")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nroads\n")
    with pytest.raises(ValueError, match=r"has 7 words with \[DEC\]; expected 16, the rows of the Q-Former's"):
        convert_model(replace(settings, qformer_tokenizer=str(tmp_path / "vocab.txt")), output=tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"intermediate_size": 99},
            r"gate_proj\.weight makes language_model\..* 24 x 16, and \d+ more do not fit; .*99 x",
        ),
        ({"num_hidden_layers": 3}, r"missing language_model\.model \(9 tensors\)"),
        ({"num_hidden_layers": 1}, r"holds model\.layers\.1\..* and 8 more that a model of these sizes has no use for"),
        ({"num_attention_heads": 3}, r"config\.json: .*not a multiple of the number of attention heads"),
        ({"model_type": "vit"}, r"vit"),
        ({"model_type": "no-such-type"}, r"config\.json: .*no-such-type.*--language-model"),
    ],
)
def test_a_config_that_does_not_fit_its_weights(originals, tmp_path, config, message):
    folder = tmp_path / "llm"
    shutil.copytree(originals.language_model, folder)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | config))
    with pytest.raises(ValueError, match=message):
        convert_model(settle(originals, language_model=str(folder)), output=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["llm"]


def test_a_folder_without_config_or_tokenizer(originals, tmp_path):
    folder = tmp_path / "llm"
    shutil.copytree(originals.language_model, folder)
    for file in folder.glob("token*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"no tokenizer can be read in .*; expected tokenizer\.model or"):
        convert_model(settle(originals, language_model=str(folder)), output=tmp_path / "out")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no config\.json in .*; give that with --language-model"):
        convert_model(settle(originals, language_model=str(folder)), output=tmp_path / "out")


def test_a_vocabulary_of_sentencepiece_without_its_package(originals, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "llm"
    shutil.copytree(originals.language_model, folder)
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    arguments = ["convert", str(originals.checkpoint), "--output", str(tmp_path / "out")]
    arguments += ["--vision", str(originals.vision), "--language-model", str(folder), "--vision-layers", "3"]
    monkeypatch.setattr(sys, "argv", ["deltavlm", "model", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == cli.WRONG_INPUT
    assert capsys.readouterr().err.splitlines()[-1] == "To do: pip install 'deltavlm-monitor[convert]'"
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_two_and_without_a_traceback(originals, tmp_path, monkeypatch, capsys):
    cut = tmp_path / "checkpoint_best.pth"
    cut.write_bytes(originals.checkpoint.read_bytes()[:1000])
    arguments = ["convert", str(cut), "--output", str(tmp_path / "out"), "--vision", str(originals.vision)]
    monkeypatch.setattr(sys, "argv", ["deltavlm", "model", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code == cli.WRONG_INPUT
    assert said.out == ""
    assert "cannot be read" in said.err
    assert "Expected:" in said.err
    assert "To do:" in said.err
    assert "Traceback" not in said.err


def test_the_command_tells_what_it_made(originals, tmp_path, monkeypatch, capsys):
    options = {
        "--output": tmp_path / "out",
        "--vision": originals.vision,
        "--language-model": originals.language_model,
        "--qformer-tokenizer": originals.qformer_tokenizer,
        "--vision-layers": 3,
        "--vision-heads": 4,
        "--qformer-heads": 4,
    }
    words = [str(word) for pair in options.items() for word in pair]
    monkeypatch.setattr(sys, "argv", ["deltavlm", "model", "convert", str(originals.checkpoint), *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end.value.code == cli.COMPLETE
    assert told["model"] == str(tmp_path / "out")
    assert [source["role"] for source in told["sources"]] == ["checkpoint", "vision", "language_model"]
    assert told["sources"][1]["unused"]["head.weight"] == 1
    assert told["warnings"] == []


def test_a_tokenizer_of_another_size_is_refused(originals, tmp_path):
    shutil.copytree(originals.language_model, tmp_path / "llm")
    tokenizer = json.loads((tmp_path / "llm" / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"ab": 33, "cd": 34}
    (tmp_path / "llm" / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=r"tokenizer has 36 tokens, its embedding 33 rows; expected a row for each"):
        convert_model(settle(originals, language_model=str(tmp_path / "llm")), output=tmp_path / "out")


def test_too_little_space_is_told_before_anything_is_written(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match=r"has 0\.0 GB free; expected .* GB for the weights; free some"):
        convert_model(settle(originals), output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_info_warns_people_and_programs_of_an_untrained_csrm(originals, tmp_path, monkeypatch, capsys):
    convert_model(settle(originals), output=tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    config["difference_config"]["is_trained"] = False
    (tmp_path / "out" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(sys, "argv", ["deltavlm", "model", "info", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    (warning,) = json.loads(said.out.splitlines()[-1])["warnings"]
    assert "never trained" in warning
    assert "Warning: The difference perception" in said.err


def test_damaged_folders_are_told_by_info(tmp_path):
    save_file({"query_tokens": torch.ones(4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds list; expected a JSON object"):
        inspect_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        inspect_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert inspect_model(tmp_path)["parameters"] == {"query_tokens": 4}
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read"):
        inspect_model(tmp_path)
