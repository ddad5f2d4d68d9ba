"""The shipped miniature backbones are the ones whose training logs lie beside them."""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from bench import backbones
from bench.mini import pretrain

SHIPPED = Path(pretrain.__file__).parent / "backbones"


@pytest.mark.parametrize("name", sorted(pretrain.SIZES))
def test_shipped_weights_score_on_held_out_descriptions_what_their_log_says(name: str) -> None:
    folder = SHIPPED / name
    log = json.loads((folder / "training_log.json").read_text(encoding="utf-8"))
    lm = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model = backbones.build(lm.config, feat_dim=1)
    model.lm.load_state_dict(lm.state_dict())
    model.visual_embedding = pretrain.PhraseEmbedding(model.lm.get_input_embeddings())
    tokenizer = backbones.Tokenizer.wrap(AutoTokenizer.from_pretrained(folder), backbones.family_of(lm.config))
    corpus = pretrain.Corpus.generate(pretrain.WORLD_SEED + log["seed"] + 1, 1)
    scores = pretrain.accuracy(model, pretrain.LessonSampler(corpus, tokenizer))
    # two of 200 examples may change sides by another machine's rounding
    assert scores == pytest.approx(log["held_out_percent"], abs=1.0)
    assert log["parameters"] == sum(parameter.numel() for parameter in lm.parameters())
