"""How answers are decoded: the arguments of ``generate`` in the official runs, and the true-or-false choice of
NLVR2."""

from typing import Any

from torch import Tensor

from bench.backbones.model import VLModel
from bench.backbones.tokenization import Tokenizer


class OldLengthPenalty:
    """Stands for the length penalty 1, and makes beam search end when that of transformers 4.2.1 did.

    A search ends once no open answer can be better than the worst of those that have ended. The best that an open one
    can be is computed from the best continuation: in transformers 4.2.1 from that of all, in 5 from the best that is no
    end. Both divide scores by ``length ** penalty``, first those of all continuations ``(b, c)``, in descending order,
    then that of the best open answer ``(b, 1)``.
    """

    def __rpow__(self, length: int) -> "OldLengthPenalty":
        self._length = length
        return self

    def __rtruediv__(self, scores: Tensor) -> Tensor:
        if scores.shape[1] > 1:
            self._best = scores[:, :1]
        return (scores if scores.shape[1] > 1 else self._best) / self._length


def generation_arguments(model: VLModel, beams: int, max_length: int, beam_length: str = "library") -> dict[str, Any]:
    """Return all arguments that :meth:`VLModel.generate` is called with, so that nothing depends on the generation
    settings stored in a checkpoint.

    The published numbers were made with transformers 4.2.1. There BART has to end an answer at ``max_length`` in beam
    search but not in greedy search, and its first token is never forced (quirk FORCE-BOS).

    Beam search ranks answers by the sum of their log-probabilities over the number of their tokens, the start counted
    and a final end not. Where an answer need not end (T5), one that is cut off at ``max_length`` has no final end, so
    transformers 4.2.1 divides by ``max_length``; transformers 5 divides by one less (quirk BEAM-LENGTH). With
    ``beam_length`` "transformers-4" such an answer gets an end of probability 1 as one more token, which is not
    counted, and a search ends when it did there (:class:`OldLengthPenalty`).

    Args:
        model: the model that will decode.
        beams: number of beams; 1 is greedy search.
        max_length: largest number of decoder tokens, the start token included.
        beam_length: "library", or "transformers-4" to rank answers that reach ``max_length`` as that version did.
    """
    family = model.backbone_family
    arguments = {
        **family.generation,
        "num_beams": beams,
        "max_length": max_length,
        "do_sample": False,
        "forced_bos_token_id": None,
        "forced_eos_token_id": model.lm.config.eos_token_id if family.forced_end_with_beams and beams > 1 else None,
    }
    if beam_length == "transformers-4" and beams > 1 and not family.forced_end_with_beams:
        arguments |= {"max_length": max_length + 1, "forced_eos_token_id": model.lm.config.eos_token_id}
        arguments["length_penalty"] = OldLengthPenalty()
    if beams == 1:  # these two belong to beam search; transformers warns about them otherwise
        arguments.pop("early_stopping", None)
        arguments.pop("length_penalty", None)
    return arguments


def decide(model: VLModel, tokenizer: Tokenizer, input_ids: Tensor, vis_feats: Tensor, task: str) -> list[str]:
    """Return ``"true"`` or ``"false"`` for every example of a batch, without generating.

    As in the official evaluation of NLVR2, the logits of the two words at the first answer position are compared; a
    tie is "false".

    Args:
        model: the model.
        tokenizer: gives the ids of the two words.
        input_ids: ``(b, t)``.
        vis_feats: ``(b, 2, v, f)``.
        task: name of the task, for methods with weights per task.
    """
    decoder_prompt = model.backbone_family.decoder_prompt(model.lm.config)
    decoder_input_ids = input_ids.new_tensor([decoder_prompt]).expand(len(input_ids), -1)
    logits = model(input_ids, vis_feats, task=task, decoder_input_ids=decoder_input_ids).logits[:, -1]
    is_true = logits[:, tokenizer.first_token_id("true")] > logits[:, tokenizer.first_token_id("false")]
    return ["true" if true else "false" for true in is_true.tolist()]
