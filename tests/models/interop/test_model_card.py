"""The model card of an export: valid YAML and Markdown, code that runs, facts that are true."""

import re
import shlex

import pytest
import yaml

from convbert.models.architecture import PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.interop.hf import save_pretrained
from convbert.models.interop.model_card import CardFacts
from convbert.models.presets import preset
from convbert.models.pretraining import build_model


def small(**overrides) -> PretrainingConfig:
    return preset("tiny", vocab_size=60, num_layers=1, hidden_size=32, num_heads=4, **overrides)


@pytest.mark.parametrize("hidden", [True, False])
def test_model_card_tells_how_padding_differs(tmp_path, hidden):
    encoder = Encoder(small(mask_conv_padding=hidden).discriminator)
    save_pretrained(
        encoder, tmp_path, model_card=CardFacts("here", training={"training_tokens": 1234})
    )
    card = (tmp_path / "README.md").read_text()
    assert "last\n4 tokens of a text see the padding" in card
    assert ("pretrained with padding hidden" in card) == hidden
    assert "| training tokens | 1234 |" in card
    assert f"{sum(p.numel() for p in encoder.parameters()):,}" in card


def test_model_card_is_yaml_markdown_and_code_that_is_right(tmp_path):
    place, odd = tmp_path / "a model's", 'we: "ird'
    facts = CardFacts(f"{place}/", odd, ["no", "uk"], scores=[("trec/accuracy", "0.7000", "one")])
    save_pretrained(build_model(small()), place, model_card=facts)
    card = (place / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], front["language"]) == (odd, ["no", "uk"])
    assert front["pipeline_tag"] == "feature-extraction"
    assert "| trec/accuracy | 0.7000 | one |" in card
    assert f'pipeline("fill-mask", model="{place}/generator")' in card
    command = re.search(r"^convbert .*$", card, re.M)[0]
    assert shlex.split(command)[:3] == ["convbert", "finetune", str(place)]

    save_pretrained(Encoder(small().discriminator), tmp_path / "alone")
    card = (tmp_path / "alone" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["license"], "language" in front) == ("unknown", False)
    assert "fill-mask" not in card
    assert f'AutoModel.from_pretrained("{tmp_path / "alone"}")' in card
