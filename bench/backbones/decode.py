"""How answers are decoded: generation arguments of the official runs, and the two-way decision of NLVR2."""

from typing import Any

from torch import Tensor

from bench.backbones.model import VLModel
from bench.backbones.tokenization import Tokenizer


def generation_arguments(model: VLModel, beams: int, max_length: int) -> dict[str, Any]:
    """Return every argument of ``generate`` explicitly, so that no checkpoint's configuration decides silently.

    With beams BART is forced to end at ``max_length``, with greedy search it is not (transformers 4.2.1, which made the
    published numbers); the first token is never forced (quirk FORCE-BOS).
    """
    ends = model.lm.config.eos_token_id if model.family == "bart" and beams > 1 else None
    arguments = {
        **model._family.generation,
        "num_beams": beams,
        "max_length": max_length,
        "do_sample": False,
        "forced_bos_token_id": None,
        "forced_eos_token_id": ends,
    }
    if beams == 1:
        arguments.pop("early_stopping", None)
        arguments.pop("length_penalty", None)
    return arguments


def decide(model: VLModel, text: Tokenizer, input_ids: Tensor, vis_feats: Tensor, task: str) -> list[str]:
    """Return "true" where its logit at the first answer position is above that of "false", else "false"; no
    generation."""
    prompt = input_ids.new_tensor([model._family.prompt_ids(model.lm.config)]).expand(len(input_ids), -1)
    logits = model(input_ids, vis_feats, task=task, decoder_input_ids=prompt).logits[:, -1]
    true = logits[:, text.first_id("true")] > logits[:, text.first_id("false")]
    return ["true" if yes else "false" for yes in true.tolist()]
