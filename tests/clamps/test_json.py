"""Clamps as JSON: what is written is read again, and what is malformed is refused."""

import json

import pytest
from all_clamps import CLAMPS, CONFIG, DONOR
from networks import network

from ih_jax.clamps import kinds as c
from ih_jax.clamps.clamp import Clamp
from ih_jax.errors import UserError


@pytest.mark.parametrize("name", CLAMPS)
def test_json_gives_the_clamp_back(name: str) -> None:
    text = CLAMPS[name].to_json()
    json.loads(text)
    weights = {DONOR.checksum: DONOR.params}
    again = Clamp.from_json(text, weights)
    assert again == CLAMPS[name]
    assert again.to_json() == text
    assert hash(again) == hash(CLAMPS[name])


def test_json_needs_the_weights_it_was_written_with() -> None:
    text = CLAMPS["graft upto"].to_json()
    assert "elsewhere" in text
    assert len(text) < 300
    with pytest.raises(UserError, match="run 'elsewhere' at step 7"):
        Clamp.from_json(text)
    with pytest.raises(UserError, match="have checksum"):
        Clamp.from_json(text, {DONOR.checksum: network(CONFIG, 6)})


def test_json_of_functions_that_cannot_be_imported() -> None:
    def local(batch, activations):
        return activations.z[-1]

    text = c.rule("z", local).to_json()
    with pytest.raises(UserError, match="pass it as functions"):
        Clamp.from_json(text)
    name = json.loads(text)[0]["function"]
    assert Clamp.from_json(text, functions={name: local}) == c.rule("z", local)


ABLATE = {"kind": "ablate", "layer": 0, "heads": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (None, "not JSON"),
        ("{}", "a list of parts"),
        ("[1]", "a list of parts"),
        ([{}], "unknown clamp kind None"),
        (
            [ABLATE | {"kind": "abl"}],
            "unknown clamp kind 'abl': did you mean 'ablate'.*import the module",
        ),
        ([ABLATE | {"kind": ["ablate"]}], "unknown clamp kind"),
        ([ABLATE | {"strength": 1}], "it takes exactly heads, layer"),
        ([{"kind": "ablate", "layer": 0}], "it takes exactly heads, layer"),
        ([ABLATE | {"heads": None}], "head is None"),
        ([ABLATE | {"layer": "0"}], "layer is '0'"),
        ([ABLATE | {"during": 3}], "during is 3"),
        ([ABLATE | {"during": [5, 1]}], "0 <= start < stop"),
        ([{"kind": "freeze", "parameters": 3}], "no parameter named"),
        ([{"kind": "freeze", "parameters": [3]}], "no parameter named"),
        (
            [{"kind": "temperature", "layer": 1, "temperatures": 3, "base": "clean"}],
            "give {head: temperature > 0}",
        ),
        (
            [{"kind": "graft", "weights": 3, "upto": 0, "after": None}],
            "give run, step and checksum",
        ),
        ([{"kind": "preserve", "what": ["all"]}], "preserve is 'all'"),
    ],
)
def test_malformed_json_is_refused_in_one_line(text, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Clamp.from_json(json.dumps(text) if isinstance(text, list) else text)
    assert "\n" not in str(error.value)
