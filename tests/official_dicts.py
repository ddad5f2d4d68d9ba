"""State dicts for tiny models under the names that the official modules give their tensors, and their formulas."""

import torch
import torch.nn.functional as F
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from bench import official

D, FF, R, RG, RV, LORA, FEATS, BASE, WORDS = 16, 24, 8, 6, 4, 5, 10, 30, 34
TINY = {
    "bart": lambda: BartConfig(
        d_model=D, vocab_size=BASE, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=FF, decoder_ffn_dim=FF, max_position_embeddings=20,
    ),
    "t5": lambda: T5Config(
        d_model=D, vocab_size=BASE, num_layers=2, num_decoder_layers=2, num_heads=2, d_kv=8, d_ff=FF,
        relative_attention_num_buckets=8, decoder_start_token_id=0,
    ),
}  # fmt: skip
PATHS = {  # layer and attention by stack and block
    "bart": lambda stack, i, block: (
        f"model.{stack}.layers.{i}",
        f"model.{stack}.layers.{i}.{'encoder_attn' if block == 'xa' else 'self_attn'}",
    ),
    "t5": lambda stack, i, block: (
        f"{stack}.block.{i}.layer.{({'sa': 0, 'xa': 1, 'ff': 1 if stack == 'encoder' else 2})[block]}",
        f"{stack}.block.{i}.layer.{int(block == 'xa')}.{'EncDecAttention' if block == 'xa' else 'SelfAttention'}",
    ),
}
Q, V = {"bart": "q_proj", "t5": "q"}, {"bart": "v_proj", "t5": "v"}
BLOCKS = {"encoder": ("sa", "ff"), "decoder": ("sa", "xa", "ff")}
ADAPTER = {
    ("bart", "encoder"): {"sa": "attn_adapter", "ff": "ff_adapter"},
    ("bart", "decoder"): {"sa": "self_attn_adapter", "xa": "enc_attn_adapter", "ff": "ff_adapter"},
    ("t5", "encoder"): {"sa": "attn_adapter", "ff": "ff_adapter"},
    ("t5", "decoder"): {"sa": "attn_adapter", "xa": "enc_attn_adapter", "ff": "ff_adapter"},
}


class Official(dict):
    """An official state dict in the making; ``trained`` holds what the official trainer would train."""

    def __init__(self, family):
        self.family = family
        self.random = torch.Generator().manual_seed(3)
        self.trained = set()
        config = TINY[family]()
        config.vocab_size = WORDS
        cls = BartForConditionalGeneration if family == "bart" else T5ForConditionalGeneration
        lm = cls(config)
        tied = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
        words = self.draw(WORDS, D)
        for name, value in lm.state_dict().items():
            self[name] = words if name.removeprefix("model.") in tied else self.draw(*value.shape)
        visual = f"{'model.' if family == 'bart' else ''}encoder.visual_embedding"
        for branch, width in (("feat_embedding", FEATS), ("absolute_vis_pos_embedding", 5)):
            self.linear(f"{visual}.{branch}.0", width, D)
            self.add(f"{visual}.{branch}.1.weight", D)
            if family == "bart":
                self.add(f"{visual}.{branch}.1.bias", D)
        self.add(f"{visual}.img_order_embedding.weight", 2, D)
        self[f"{visual}.obj_order_embedding.weight"] = words

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.random) * 0.3

    def add(self, name, *shape):
        self[name] = self.draw(*shape)
        self.trained.add(name)

    def linear(self, name, d_in, d_out):
        self.add(f"{name}.weight", d_out, d_in)
        self.add(f"{name}.bias", d_out)

    def share(self, before, names):
        """Repeat what stands under the first task's name under the other tasks' names."""
        for name in [name for name in self if name.startswith(f"{before}.vqa")]:
            for task in names[1:]:
                self[name.replace(f"{before}.vqa", f"{before}.{task}")] = self[name]

    def adapter(self, name, r, *, phm=0, tasks=official.TASKS):
        for side, (d_in, d_out) in (("down", (D, r)), ("up", (r, D))):
            sampler = f"{name}.adapters.vqa.{side}_sampler"
            if phm:
                self.add(f"{sampler}.phm_rule", phm, phm, phm)
                self.add(f"{sampler}.W", phm, d_in // phm, d_out // phm)
                self.add(f"{sampler}.b", d_out)
            else:
                self.linear(sampler, d_in, d_out)
        self.share(f"{name}.adapters", tasks)

    def adapters(self, stacks, **options):
        for stack in stacks:
            for i in range(2):
                for block in BLOCKS[stack]:
                    holder = PATHS[self.family](stack, i, block)[0]
                    self.adapter(f"{holder}.{ADAPTER[self.family, stack][block]}", R, **options)

    def values(self, **options):
        for i in range(2):
            attention = PATHS[self.family]("decoder", i, "xa")[1]
            self.adapter(f"{attention}.attn_value_parallel_adapter", RV, **options)

    def encoder(self):
        """Prefixes of the modules around the encoder's blocks."""
        for i in range(2):
            for block, kind in (("sa", "attn"), ("ff", "ff")):
                yield f"{PATHS[self.family]('encoder', i, block)[0]}.", kind

    def multihead(self, arrange="down", heads=4):
        r, d = (R // heads, D // heads)
        for holder, kind in self.encoder():
            down, up = f"{holder}{kind}_adapter_multihead_down", f"{holder}{kind}_adapter_multihead_up"
            for head in range(heads):
                if arrange != "up":
                    self.linear(f"{down}.{head}", D, r)
                if arrange != "down":
                    self.linear(f"{up}.{head}", r if arrange == "pair" else R, d)
            if arrange == "up":
                self.linear(down, D, R)
            if arrange == "down":
                self.linear(up, R, D)

    def gates(self, size):
        for holder, kind in self.encoder():
            name = f"{holder}encoder_{kind}_adapter_gating_"
            if size == "small":
                self.linear(f"{name}small_xy_cat", 2 * D, 1)
            elif size == "middleX":
                self.linear(f"{name}middle_xy_add", D, 1)
            elif size == "middleY":
                self.add(f"{name}middle_ia3_add", D)
            else:
                self.linear(f"{name}large_x_down", D, RG)
                self.linear(f"{name}large_x_up", RG, D)

    def lora(self):
        for stack, blocks in (("encoder", ("sa",)), ("decoder", ("sa", "xa"))):
            for i in range(2):
                for block in blocks:
                    for point in (Q[self.family], V[self.family]):
                        name = f"{PATHS[self.family](stack, i, block)[1]}.{point}"
                        self.add(f"{name}.lora_As.vqa", LORA, D)
                        self.add(f"{name}.lora_Bs.vqa", D, LORA)
                        self.share(f"{name}.lora_As", official.TASKS)
                        self.share(f"{name}.lora_Bs", official.TASKS)

    def biases_of_t5(self):
        """A bias for every Linear and norm, as in LST's bias tuning."""
        for name in [n for n in self if n.endswith(".weight") and "embed_tokens" not in n and "relative" not in n]:
            if ("_embedding" not in name or ".1.weight" in name) and name != "shared.weight":
                self.add(name.replace(".weight", ".bias"), len(self[name]))

    def train(self, *parts, where=""):
        """The official rule: every parameter with one of these in its name."""
        buffers = {"final_logits_bias"}
        self.trained |= {n for n in self if where in n and any(p in n for p in parts)} - buffers

    def count(self):
        return sum({self[name].data_ptr(): self[name].numel() for name in self.trained}.values())

    def load(self, method, **options):
        return official.load(dict(self), backbone=TINY[self.family](), method=method, feat_dim=FEATS, **options)


def case(family, method):
    """The official state dict of a method, its trained set by the official trainer's rules."""
    sd = Official(family)
    kind, _, size = method.partition("+")
    size = (size or kind).removeprefix("vl-pet-") if "vl-pet" in method else ""
    if method == "full":
        sd.train("")
    elif kind == "bitfit":
        sd.train("bias")
    elif kind == "bitfit with biases added":
        sd.biases_of_t5()
    elif kind == "lora":
        sd.lora()
        if family == "bart":
            sd.train("bias")
    if kind in ("vl-adapter", "compacter"):
        sd.adapters(("encoder",) if size else ("encoder", "decoder"), phm=2 if kind == "compacter" else 0)
    elif size:
        sd.multihead()
    if size:
        sd.gates(size)
        sd.values(phm=2 if kind == "compacter" else 0)
        sd.train("layer_norm", "layernorm", where="encoder.")
    elif kind in ("vl-adapter", "compacter") and family == "bart":
        sd.train("layer_norm", "layernorm")
    return sd


def act(u):
    return F.gelu(u, approximate="tanh")


def dense(sd, name, u):
    return u @ sd[f"{name}.weight"].T + sd[f"{name}.bias"]


def kronecker(sd, name, u):
    matrix = sum(
        torch.kron(a, b) for a, b in zip(sd[f"{name}.phm_rule"], sd[f"{name}.W"], strict=True)
    )  # rows are inputs
    return u @ matrix + sd[f"{name}.b"]


def gate(sd, size, x, hhat, name="model.encoder.layers.1.encoder_ff_adapter_gating_"):
    if size == "small":
        return torch.sigmoid(dense(sd, f"{name}small_xy_cat", torch.cat([x, hhat], -1))).mean(1, keepdim=True)
    if size == "middleX":
        return torch.sigmoid(dense(sd, f"{name}middle_xy_add", x + hhat))
    if size == "middleY":
        return 1 + sd[f"{name}middle_ia3_add"]
    return torch.sigmoid(dense(sd, f"{name}large_x_up", act(dense(sd, f"{name}large_x_down", x))))
