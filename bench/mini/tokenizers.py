"""Tokenisers of the miniature backbones, in the layouts of BART and T5, trained on the sentences of the miniature
world."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 640
#: a time span, a bracketed label or a word is one piece, any other sign is a piece of its own
PIECES = r"{space}?\([0-9.,\-\[\] ▁]+\)|{space}?\[?[A-Za-z0-9]+:?\]?|{space}?[^\sA-Za-z0-9▁]|{space}"


def train_bart(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with BART's layout: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3; every space is kept."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES.format(space=" ")), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        sentences,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def train_t5(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """BPE over ``▁`` words with T5's layout: ``<pad>`` 0, ``</s>`` 1, ``<unk>`` 2, and ``<extra_id_99>`` to
    ``<extra_id_0>`` last."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES.format(space="▁")), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.train_from_iterator(
        sentences,
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    extra = [f"<extra_id_{i}>" for i in reversed(range(100))]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in extra])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


TRAINERS = {"mini-bart": train_bart, "mini-t5": train_t5}


def sentences_below(root: Path) -> list[str]:
    """Return every text of a data root's training annotations, as the tasks present it (sources with prompt, and
    targets)."""
    from bench import suites, tasks

    found = []
    for name in suites.official_tasks():
        task = tasks.get(name)
        for example in task.read(root, "train"):
            found.append(task.source(example, True))
            found.extend(answer for answer, _ in example.answers)
    return found
