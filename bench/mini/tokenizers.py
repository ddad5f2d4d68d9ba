"""Training the tokenisers of the miniature backbones, whose special tokens have the ids of BART's and T5's."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 640
#: what a token cannot cross: a time span, a bracketed label, a word, or any other single character
PIECES = r"{space}?\([0-9.,\-\[\] ▁]+\)|{space}?\[?[A-Za-z0-9]+:?\]?|{space}?[^\sA-Za-z0-9▁]|{space}"


def train_bart(sentences: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokeniser with BART's special tokens, which keeps every space.

    ``<s>`` has id 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, ``<mask>`` 4.
    """
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
    """Train a BPE tokeniser with T5's special tokens, in which ``▁`` marks the beginning of a word.

    ``<pad>`` has id 0, ``</s>`` 1, ``<unk>`` 2, and ``<extra_id_99>`` to ``<extra_id_0>`` are the last hundred.
    """
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


#: name of the backbone -> ``(sentences) -> tokeniser``
TRAINERS = {"mini-bart": train_bart, "mini-t5": train_t5}
