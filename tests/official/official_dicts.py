"""State dicts for tiny models under the names that the official modules give their tensors, and their formulas."""

from functools import partial

import torch
import torch.nn.functional as F
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from bench import official, optim

D, FF, R, RG, RV, LORA, FEATS, BASE, WORDS = 16, 24, 8, 6, 4, 5, 10, 30, 34
PROMPT, MID, TASK, HIDDEN, E = 3, 7, 5, 9, 4
SIZES = {
    "bart": dict(
        d_model=D, vocab_size=BASE, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=FF, decoder_ffn_dim=FF, max_position_embeddings=20,
    ),
    "t5": dict(
        d_model=D, vocab_size=BASE, num_layers=2, num_decoder_layers=2, num_heads=2, d_kv=8, d_ff=FF,
        relative_attention_num_buckets=8, decoder_start_token_id=0,
    ),
}  # fmt: skip
TINY = {"bart": lambda **more: BartConfig(**SIZES["bart"] | more), "t5": lambda **more: T5Config(**SIZES["t5"] | more)}
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
HYPER = {"sa": "self_attention", "xa": "cross_attention", "ff": "feed_forward"}


class Official(dict):
    """An official state dict in the making; ``trained`` holds what the official trainer would train."""

    def __init__(self, family, words=WORDS, feats=FEATS, **more):
        self.family = family
        self.random = torch.Generator().manual_seed(3)
        self.trained = set()
        config = TINY[family](**more | {"vocab_size": words})
        cls = BartForConditionalGeneration if family == "bart" else T5ForConditionalGeneration
        lm = cls(config)
        tied = {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
        words = self.draw(words, D)
        for name, value in lm.state_dict().items():
            self[name] = words if name.removeprefix("model.") in tied else self.draw(*value.shape)
        visual = f"{'model.' if family == 'bart' else ''}encoder.visual_embedding"
        for branch, width in (("feat_embedding", feats), ("absolute_vis_pos_embedding", 5)):
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

    def per_task(self, holder, build, tail="", *, shared=True):
        """``build(name)`` for ``HOLDER.TASK`` + tail of every task: the same tensors, or each task's own."""
        first = f"{holder}.{official.TASKS[0]}{tail}"
        build(first)
        for task in official.TASKS[1:]:
            name = f"{holder}.{task}{tail}"
            if shared:
                same = [existing for existing in self if existing == first or existing.startswith(f"{first}.")]
                self |= {existing.replace(first, name): self[existing] for existing in same}
            else:
                build(name)

    def matrix(self, name, d_in, d_out, *, phm=0, rank=0, rule=None, factor=0):
        """One projection of an adapter: a Linear, a PHM matrix, or a product of two factors."""
        if phm:
            self.add(f"{name}.phm_rule", phm, phm, phm)
            if rule is not None:
                self[f"{name}.phm_rule"] = rule
            if rank:
                self.add(f"{name}.W_left", phm, d_in // phm, rank)
                self.add(f"{name}.W_right", phm, rank, d_out // phm)
            else:
                self.add(f"{name}.W", phm, d_in // phm, d_out // phm)
        elif factor:
            self.add(f"{name}.W_left", d_in, factor)
            self.add(f"{name}.W_right", factor, d_out)
        else:
            self.linear(name, d_in, d_out)
        if phm or factor:
            self.add(f"{name}.b", d_out)

    def adapter(self, name, r, *, share="all", norms=(), **kind):
        for norm in norms:
            self.add(f"{name}.{norm}.weight", D)
            self.add(f"{name}.{norm}.bias", D)
        sides = {"down": (D, r), "up": (r, D)}
        for side, widths in sides.items():
            build = partial(self.matrix, d_in=widths[0], d_out=widths[1], **kind)
            self.per_task(f"{name}.adapters", build, f".{side}_sampler", shared=share in ("all", side))

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

    def lora(self, *, shared=True):
        for stack, blocks in (("encoder", ("sa",)), ("decoder", ("sa", "xa"))):
            for i in range(2):
                for block in blocks:
                    for point in (Q[self.family], V[self.family]):
                        name = f"{PATHS[self.family](stack, i, block)[1]}.{point}"
                        self.per_task(f"{name}.lora_As", lambda at: self.add(at, LORA, D), shared=shared)
                        self.per_task(f"{name}.lora_Bs", lambda at: self.add(at, D, LORA), shared=shared)

    @property
    def root(self):
        return "model." if self.family == "bart" else ""

    def prompt(self, *, shared=True):
        def build(at):
            self.add(f"{at}.prefix_embedding.0.weight", PROMPT, D)
            self.linear(f"{at}.prefix_embedding.1", D, MID)
            self.linear(f"{at}.prefix_embedding.3", MID, D)

        self.per_task(f"{self.root}encoder.prompt_modules.prompts", build, shared=shared)

    def hyperformer(self):
        for task in official.TASKS:
            self.add(f"{self.root}shared_task_embed.task_to_embeddings.{task}", TASK)
            for stack in BLOCKS:
                vector = self[f"{self.root}shared_task_embed.task_to_embeddings.{task}"]
                self[f"{self.root}{stack}.task_embed.task_to_embeddings.{task}"] = vector
        for stack, blocks in BLOCKS.items():
            net = f"{self.root}{stack}.adapter_layers_hyper_net"
            self.add(f"{net}.layer_id_embeddings.weight", 2, TASK)
            self.linear(f"{net}.task_hypernet.task_embeding_generator.0", 2 * TASK, HIDDEN)
            self.linear(f"{net}.task_hypernet.task_embeding_generator.2", HIDDEN, E)
            self.add(f"{net}.LayerNorm.weight", E)
            self.add(f"{net}.LayerNorm.bias", E)
            for block in blocks:
                for side, (d_in, d_out) in (("down", (D, R)), ("up", (R, D))):
                    generator = f"{net}.{HYPER[block]}_{side}_sampler_hyper_net"
                    self.linear(f"{generator}.weight_generator.0", E, d_in * d_out)
                    self.linear(f"{generator}.bias_generator.0", E, d_out)

    def side(self, factor=4):
        """LST's side network of T5, whose layers are the backbone's with every width divided."""
        for stack in BLOCKS:
            self.linear(f"{stack}.side_first_downsample", D, D // factor)
            self.add(f"{stack}.final_side_layer_norm.weight", D // factor)
            for i in range(2):
                self.add(f"{stack}.side_gate_params.{i}", 1)
                self.linear(f"{stack}.side_downsamples.{i}", D, D // factor)
            for name in [name for name in self if name.startswith(f"{stack}.block.")]:
                keeps_shape = name.endswith("relative_attention_bias.weight")
                shape = self[name].shape if keeps_shape else [width // factor for width in self[name].shape]
                self.add(name.replace(".block.", ".side_block."), *shape)
        self.linear("side_final_upsample", D // factor, D)

    def biases_of_t5(self):
        """A bias for every Linear and norm, as in LST's bias tuning."""
        for name in [n for n in self if n.endswith(".weight") and "embed_tokens" not in n and "relative" not in n]:
            if ("_embedding" not in name or ".1.weight" in name) and name != "shared.weight":
                self.add(name.replace(".weight", ".bias"), len(self[name]))

    def train(self, *parts, within=""):
        """The official rule: every parameter with one of these in its name."""
        buffers = {"final_logits_bias"}
        self.trained |= {n for n in self if within in n and any(p in n for p in parts)} - buffers

    def count(self):
        return sum({self[name].data_ptr(): self[name].numel() for name in self.trained}.values())

    def read(self, method, **options):
        return official.read(dict(self), backbone=TINY[self.family](), method=method, feat_dim=FEATS, **options)

    def load(self, method, **options):
        return official.load(dict(self), backbone=TINY[self.family](), method=method, feat_dim=FEATS, **options)


def case(family, method, **sizes):
    """The official state dict of a method, its trained set by the official trainer's rules."""
    sd = Official(family, **sizes)
    kind, _, size = method.partition("+")
    size = (size or kind).removeprefix("vl-pet-") if "vl-pet" in method else ""
    share = {"multiple": "none", "down": "down", "up": "up"}.get(kind.split("-")[-1], "all")
    base = kind.removesuffix("-multiple").split("-half")[0]
    if method == "full":
        sd.train("")
    elif kind == "bitfit":
        sd.train("bias")
    elif kind == "bitfit with biases added":
        sd.biases_of_t5()
    elif base == "lora":
        sd.lora(shared=share == "all")
        if family == "bart":
            sd.train("bias")
    elif base == "prompt":
        sd.prompt(shared=share == "all")
    elif kind == "hyperformer":
        sd.hyperformer()
    elif kind == "lst":
        sd.side()
    adapters = {"vl-adapter": {}, "compacter": {"phm": 2}, "compacter-original": {"phm": 4, "rank": 1}}
    if kind == "compacter-original":
        sd.add("phm_rule", 4, 4, 4)
        adapters[kind]["rule"] = sd["phm_rule"]
    if base in adapters:
        sd.adapters(("encoder",) if size else ("encoder", "decoder"), share=share, **adapters[base])
    elif size:
        sd.multihead()
    if size:
        sd.gates(size)
        sd.values(phm=2 if kind == "compacter" else 0)
        sd.train("layer_norm", "layernorm", within="encoder.")
    elif (base in adapters or kind == "hyperformer") and family == "bart":
        sd.train("layer_norm", "layernorm")
    return sd


def exempt(model, handle, **options):
    """The names of the trained parameters that have no weight decay."""
    groups = optim.groups(model, 0.1, 0.01, stated=handle.official_decay(), **options)
    spared = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    return {name for name, p in handle.trained().items() if id(p) in spared}


def officially_exempt(loaded):
    """The same by the official trainer's rule, which asks for parts of official names."""
    names = {name: loaded.names.pieces_of(name)[0][0] for name in loaded.handle.trained()}
    return {name for name, official in names.items() if "bias" in official or "LayerNorm.weight" in official}


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
