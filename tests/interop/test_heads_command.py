"""Heads of a circuit known by construction, and the folder that `ih-jax heads` writes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hand_written_networks import induction_circuit, refusal, write_model

from ih_jax.cli import main
from ih_jax.errors import UserError
from ih_jax.interop import head_scores
from ih_jax.interop.pretrained import reading


def test_a_circuit_known_by_construction_is_found(tmp_path):
    config, arrays = induction_circuit()
    folder = write_model(tmp_path, arrays=arrays, **config)
    found = head_scores.measure(reading.read(folder))
    np.testing.assert_array_equal(
        head_scores.kinds(found), [["previous token", ""], ["induction", ""]]
    )
    assert found["previous_token"][0, 0] > 0.95
    assert found["prefix_matching"][1, 0] > 0.9
    assert found["copying"][1, 0] > 0.9
    # Heads that do nothing attend to all alike, and copy nothing.
    assert (found["prefix_matching"][:, 1] < 0.05).all()
    np.testing.assert_allclose(found["copying"][:, 1], -1, atol=1e-6)
    # With the sign of its output turned, the same head anti-copies.
    arrays["h.1.attn.c_proj.weight"] *= -1
    write_model(folder, arrays=arrays, **config)
    found = head_scores.measure(reading.read(folder))
    assert head_scores.kinds(found)[1, 0] == "anti-copying"
    assert found["copying"][1, 0] < -0.9


def test_the_command_writes_the_folder_and_prints_the_table(tmp_path, monkeypatch, capsys):
    config, arrays = induction_circuit()
    write_model(tmp_path / "circuit", arrays=arrays, **config)
    monkeypatch.chdir(tmp_path)
    assert main.main(["heads", "--model", "circuit"]) == 0
    said = capsys.readouterr().out
    assert "induction heads: 1.0" in said and "previous token heads: 0.0" in said
    folder = Path("results/heads-circuit")
    names = {"heads.nc", "README.md", "figure.png", "figure.svg"}
    assert {path.name for path in folder.iterdir()} == names
    found = xr.load_dataset(folder / "heads.nc", engine="h5netcdf")
    assert found["copying"].dims == ("layer", "head")
    assert "model.safetensors" in json.loads(found.attrs["sha256"])
    text = (folder / "README.md").read_text()
    assert "Induction heads: 1.0." in text and "| 1.0 |" in text and "random tokens" in text
    # Again: the same bytes. Other weights are not written over them.
    before = {name: (folder / name).read_bytes() for name in names - {"heads.nc"}}
    assert main.main(["heads", "--model", "circuit", "--quiet"]) == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    arrays["wpe.weight"] += 1
    write_model(tmp_path / "circuit", arrays=arrays, **config)
    assert main.main(["heads", "--model", "circuit"]) == 2
    assert "scores of other weights" in capsys.readouterr().err
    # Nor are they written over results of other commands.
    (folder / "heads.nc").unlink()
    assert main.main(["heads", "--model", "circuit"]) == 2
    assert "holds a README.md of something else" in capsys.readouterr().err
    assert main.main(["heads", "--model", "nowhere"]) == 2
    for odd in (5, None, "a\0b"):
        with pytest.raises(UserError, match=r"model is .*: give the path of a file or folder"):
            reading.read(odd)
    assert main.main(["heads", "--model", "circuit", "--model=nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert main.main(["heads", "--model", "circuit", "--seed", "1", "--seed=2"]) == 2
    assert "--seed is given 2 times: give it once" in capsys.readouterr().err
    assert main.main(["heads", "--model", "circuit", "--seed", "-1", "--out", "seed"]) == 2
    assert "seed is -1" in capsys.readouterr().err
    assert not Path("seed").exists()


def test_a_folder_with_a_tokenizer_is_shown_a_text(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    model = write_model(tmp_path)

    def tokenizer(count):
        words = {word: number % count for number, word in enumerate(["[UNK]", "better", "than"])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        made.save(str(tmp_path / "tokenizer.json"))

    tokenizer(3)
    shown = head_scores.probes(reading.read(model))
    assert "the Zen of Python" in shown.told["previous_token"]
    assert shown.text.shape == (1, 110) and {1, 2} < set(np.asarray(shown.text[0]).tolist())
    (tmp_path / "tokenizer.json").write_text("{")
    said = refusal(model)
    assert "tokenizer.json is not JSON" in said and "download it again" in said
