"""Methods of HF PEFT (https://github.com/huggingface/peft) by the name ``peft:NAME``; the library does the mathematics.

Each is a row of a table: PEFT's type, the sites it stands at, and which of its settings are options. The modules that
PEFT changes are given by their full names, so that nothing outside of the language model is changed. Tensors that are
random but not trained are drawn from a seed in the settings: every attachment has the same ones, and a saved file need
not hold them.

Left out of PEFT 0.21, and why:

- PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA, OSF: their start rewrites the backbone's weights; EVA's needs data.
- PSOFT, TinyLoRA, FRoD, SuperTuning: frozen parts are computed from the backbone's weights (singular vectors, largest
  entries), and need not come out the same on another machine, while a saved file holds trained tensors only.
- prompt tuning, P-tuning, multitask prompt tuning, CPT: put rows in front of the encoder's ``inputs_embeds``, which a
  wrapper that joins text and visual tokens itself never passes.
- Lily: its router averages over the tokens of a call, and decoding with a cache calls it with one token at a time.
- Poly, X-LoRA, Shadow, Cartridge: need further arguments in every call, or a second model.
- AdaMSS: needs scikit-learn. Adaption prompt: for decoder-only models. Trainable tokens: no new tokens here.
- VeLoRA, aLoRA, QALoRA and other switches of LoRA: about memory, adapters at run time or quantisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from methods.core.errors import MethodError
from methods.core.registry import Alpha, OptimizerSettings, Rank, method
from methods.core.shape import SITES, Shape
from methods.core.spec import Part, Spec
from methods.ia3 import SCALED
from methods.lora import Q_AND_V

if TYPE_CHECKING:
    from methods.core.placement import Placement
    from methods.core.sites import Sites

V = tuple(site for site in Q_AND_V if site.endswith(".v"))
NORMS = tuple(site for site in SITES if site.endswith(".ln") and site != "vis.ln")

Block = Annotated[int, Field(ge=1)]
"""A size that divides widths: cut to the largest divisor that it has in common with the widths of q and v."""
Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class Peft(Part):
    """A PEFT adapter at every site of ``at``."""

    type: str  # a peft.PeftType
    at: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()  # fields of the type's peft config

    @property
    def formula(self) -> str:
        """The type and its settings; the formula is part of the method's description."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings)
        return f"{self.type} of HF PEFT: {settings or 'no settings'}"

    @property
    def mergeable(self) -> bool:
        """True but for BEFT: the library folds that only where there are biases, so not on T5."""
        return self.type != "BEFT"

    @property
    def in_encoder(self) -> bool:
        """Whether all its sites are in the encoder."""
        return all(site.startswith("enc.") for site in self.at)

    def place(self, placement: "Placement") -> None:
        """Make PEFT's configuration and plan the injection of its layers."""
        from methods.hf_peft.injection import InjectedAdapter

        self._inject(InjectedAdapter(self._config(placement.sites)), placement)

    def _inject(self, adapter: Any, placement: "Placement") -> None:
        placement.add_module("peft", adapter)
        placement.set_peft_export(adapter)
        placement.model_changes.append(lambda: adapter.inject(placement.sites.lm))
        placement.merge_steps.append(adapter.fold)

    def _config(self, sites: "Sites", **more: Any) -> Any:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS

        names = {module: name for name, module in sites.lm.named_modules()}
        ports = [port for site in self.at for port in sites.ports(site)]
        fields = {"target_modules": [names[port.module] for port in ports], **dict(self.settings), **more}
        if self.type == "IA3":
            fields["feedforward_modules"] = [names[port.module] for port in ports if port.ahead]
        try:
            config: Any = CONFIGS[self.type](task_type="SEQ_2_SEQ_LM", **fields)  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise MethodError(f"PEFT refuses {self.type}: {error}") from error
        if self.type == "SHIRA" and sites.lm.device.type == "meta":
            config.mask_fn = None  # the support of ΔW cannot be found there, and has no parameters
        return config


class PeftAdaLoRA(Peft):
    """AdaLoRA. ``warmup`` and ``final`` are shares of the training, whose length is known only once it runs."""

    warmup: float
    final: float

    def place(self, placement: "Placement") -> None:
        """Make PEFT's configuration, with a schedule that the first update replaces, and plan the injection."""
        from methods.hf_peft.injection import InjectedAdaLoRA

        config = self._config(placement.sites, total_step=1)
        adapter = InjectedAdaLoRA(config, warmup=self.warmup, final=self.final)
        self._inject(adapter, placement)
        placement.add_penalty(adapter)
        placement.listen_to_updates(adapter)


class PeftPrefix(Part):
    """``length`` trained keys and values in front of the decoder's self-attention; from an MLP of width ``hidden``
    where that is not 0."""

    length: int
    hidden: int

    def place(self, placement: "Placement") -> None:
        """Build the prefix and plan the hooks that put it into the decoder's cache."""
        from peft import PrefixTuningConfig

        from methods.hf_peft.injection import CachedPrefix

        shape, positions = placement.sites.shape, getattr(placement.sites.lm.config, "max_position_embeddings", None)
        if positions is not None and self.length >= positions:
            raise MethodError(f"a prefix of length {self.length} takes all of the decoder's {positions} positions")
        config = PrefixTuningConfig(
            task_type="SEQ_2_SEQ_LM",
            num_virtual_tokens=self.length,
            num_layers=shape.decoder_layers,
            num_attention_heads=shape.heads,
            token_dim=shape.inner,
            num_transformer_submodules=2,
            prefix_projection=self.hidden > 0,
            encoder_hidden_size=self.hidden,
        )
        prefix = CachedPrefix(config).to(placement.make.device, placement.make.dtype)
        placement.add_module("prefix", prefix)
        placement.set_peft_export(prefix)
        decoder = placement.sites.stack("dec")
        placement.before_forward(decoder, prefix.before_decoder)
        placement.after_forward(decoder, prefix.after_decoder)


LIKE_LORA = {
    "bart image-text": OptimizerSettings(1e-3),
    "bart video-text": OptimizerSettings(3e-4),
    "t5": OptimizerSettings(3e-4),
}


def both(lr: float) -> dict[str, OptimizerSettings]:
    """Return the settings with one learning rate for both backbone families."""
    return {"bart": OptimizerSettings(lr), "t5": OptimizerSettings(lr)}


@dataclass(frozen=True)
class PeftRow:
    """A type of HF PEFT, which does the mathematics, in every layer of both stacks; options are settings of the type.

    No published run on VL-BART or VL-T5. Learning rates are those of the suite's LoRA where ΔW is made of matrices, and
    higher ones, VeRA's and FourierFT's from their papers' GLUE runs, where few numbers are trained.
    """

    name: str
    type: str
    about: str
    family: str
    options: Mapping[str, tuple[str, Any, Any]] = field(default_factory=dict)  # option: PEFT's field, type, default
    fixed: Mapping[str, Any] = field(default_factory=dict)
    at: tuple[str, ...] = Q_AND_V
    optim: Mapping[str, OptimizerSettings] = field(default_factory=lambda: LIKE_LORA)

    @property
    def __signature__(self) -> Signature:
        options = (
            Parameter(option, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for option, (_, kind, default) in self.options.items()
        )
        return Signature([Parameter("shape", Parameter.POSITIONAL_OR_KEYWORD, annotation=Shape), *options])

    def __call__(self, shape: Shape, **values: Any) -> Spec:
        """Return the method on a backbone of this shape."""
        settings = dict(self.fixed)
        for option, (name, kind, _) in self.options.items():
            if kind is Rank and not values[option]:
                raise MethodError(f"{option} must be at least 1")
            settings[name] = gcd(values[option], shape.d, shape.inner) if kind is Block else values[option]
        if settings.get("topk", 0) > settings.get("num_vectors", 0):
            raise MethodError(f"the topk={settings['topk']} of {settings['num_vectors']} vectors cannot be had")
        if "gralora_k" in settings and settings["r"] % settings["gralora_k"]:
            raise MethodError(f"rank {settings['r']} is not divisible by grid {settings['gralora_k']}")
        return Spec(parts=(Peft(type=self.type, at=self.at, settings=tuple(sorted(settings.items()))),))


LORA = {"rank": ("r", Rank, 128), "alpha": ("lora_alpha", Alpha, 32.0), "dropout": ("lora_dropout", Fraction, 0.1)}

# fmt: off
ROWS = (
    PeftRow("lora", "LORA", "W + α/r BA (Hu et al., ICLR 2022), at the rank of the suite's own", "low rank", LORA),
    PeftRow("rslora", "LORA", "W + α/√r BA (Kalajdzievski, 2023)", "low rank", LORA, {"use_rslora": True}),
    PeftRow("dora", "LORA", "m ⊙ (W + α/r BA) / ‖W + α/r BA‖, m trained per output (Liu et al., ICML 2024)", "low rank",
        LORA, {"use_dora": True}),
    PeftRow("delora", "DELORA", "W + λ‖W‖/r Σ bᵢaᵢᵀ / (‖bᵢ‖‖aᵢ‖), λ trained (Bini et al., ICLR 2025)", "low rank",
        {"rank": ("r", Rank, 32), "bound": ("delora_lambda", float, 15.0)}),
    PeftRow("gralora", "GRALORA", "a k x k grid of LoRAs of rank r/k on pieces of W (Jung et al., NeurIPS 2025)",
        "low rank",
        {"rank": ("r", Rank, 96), "alpha": ("alpha", Alpha, 192.0), "grid": ("gralora_k", Block, 2),
         "dropout": ("gralora_dropout", Fraction, 0.0)}),
    PeftRow("hira", "HIRA", "W ⊙ (1 + BA) (Huang et al., ICLR 2025)", "low rank",
        {"rank": ("r", Rank, 128), "dropout": ("hira_dropout", Fraction, 0.0)}),
    PeftRow("glora", "GLORA", "W ⊙ (1 + A) + B, with trained shifts of inputs and biases (Chavan et al., 2023)",
        "low rank",
        {"rank": ("r", Rank, 32)}),
    PeftRow("loha", "LOHA", "W + α/r (B₁A₁ ⊙ B₂A₂) (Hyeon-Woo et al., ICLR 2022)", "low rank",
        {"rank": ("r", Rank, 32), "alpha": ("alpha", Alpha, 32.0)}),
    PeftRow("lokr", "LOKR", "W + α/r C ⊗ BA (Yeh et al., ICLR 2024)", "low rank",
        {"rank": ("r", Rank, 8), "alpha": ("alpha", Alpha, 8.0)}),
    PeftRow("miss", "MISS", "W + one trained r x out block, repeated over the inputs (Kang & Yin, 2024)", "low rank",
        {"rank": ("r", Rank, 64)}),
    PeftRow("randlora", "RANDLORA", "W + Σⱼ BⱼΛⱼAΓⱼ of full rank, A and Bⱼ frozen noise (Albert et al., ICLR 2025)",
        "low rank",
        {"rank": ("r", Rank, 32), "alpha": ("randlora_alpha", Alpha, 640.0),
         "dropout": ("randlora_dropout", Fraction, 0.0), "seed": ("projection_prng_key", Seed, 0)}),
    PeftRow("vera", "VERA", "W + diag(b) B diag(d) A, A and B frozen noise for all layers (Kopiczko et al., ICLR 2024)",
        "low rank",
        {"rank": ("r", Rank, 256), "dropout": ("vera_dropout", Fraction, 0.0), "d_initial": ("d_initial", float, 0.1),
         "seed": ("projection_prng_key", Seed, 0)}, optim=both(4e-3)),
    PeftRow("pvera", "PVERA", "VeRA with a Gaussian inside, sampled in training (arXiv 2512.07703)", "low rank",
        {"rank": ("r", Rank, 256), "dropout": ("pvera_dropout", Fraction, 0.0), "d_initial": ("d_initial", float, 0.1),
         "seed": ("projection_prng_key", Seed, 0)}, optim=both(4e-3)),
    PeftRow("vblora", "VBLORA", "LoRA whose vectors are top-k mixtures of one bank (Li et al., NeurIPS 2024)",
        "low rank",
        {"rank": ("r", Rank, 4), "vectors": ("num_vectors", Count, 256), "length": ("vector_length", Block, 256),
         "topk": ("topk", Count, 2), "dropout": ("vblora_dropout", Fraction, 0.0)}),
    PeftRow("unilora", "UNILORA", "LoRA whose entries point, by seed, into one trained vector (arXiv 2506.00799)",
        "low rank",
        {"rank": ("r", Rank, 4), "size": ("theta_d_length", Rank, 23_040),
         "dropout": ("unilora_dropout", Fraction, 0.0), "seed": ("proj_seed", Seed, 42)}, optim=both(3e-3)),
    PeftRow("peanut", "PEANUT", "W + f(W), f a small trained network (arXiv 2410.01870)", "other",
        {"rank": ("r", Rank, 32), "depth": ("depth", Seed, 0), "scaling": ("scaling", float, 1.0)}),
    PeftRow("deft", "DEFT", "(I - P)W + QR, P the projection on r trained directions (NeurIPS 2025)", "low rank",
        {"rank": ("r", Rank, 32)}),
    PeftRow("oft", "OFT", "W R, R block-diagonal and orthogonal (Qiu et al., NeurIPS 2023)", "other",
        {"block": ("oft_block_size", Block, 32)}, {"r": 0}),
    PeftRow("boft", "BOFT", "diag(s) W R, R a product of orthogonal butterfly factors (Liu et al., ICLR 2024): here of"
        " one, because PEFT drops all others, silently, where its CUDA kernel does not compile", "other",
        {"block": ("boft_block_size", Block, 4)}, {"boft_n_butterfly_factor": 1}),
    PeftRow("hra", "HRA", "W Π(I - 2uᵢuᵢᵀ), a chain of reflections (Yuan et al., NeurIPS 2024)", "other",
        {"reflections": ("r", Count, 8)}),
    PeftRow("road", "ROAD", "outputs rotated and scaled in pairs (Liao & Monz, NeurIPS 2024)", "scale and bias",
        {"variant": ("variant", Literal["road_1", "road_2", "road_4"], "road_1"), "group": ("group_size", Block, 64)},
        optim=both(3e-3)),
    PeftRow("fourierft", "FOURIERFT",
        "W + α · inverse DFT of n trained coefficients, 0 at first (Gao et al., ICML 2024)", "other",
        {"frequencies": ("n_frequency", Rank, 1000), "scaling": ("scaling", Alpha, 150.0),
         "seed": ("random_loc_seed", Seed, 777)}, {"init_weights": True}, optim=both(5e-2)),
    PeftRow("waveft", "WAVEFT", "W + α · inverse wavelet transform of n trained coefficients (arXiv 2505.12532)",
        "other",
        {"frequencies": ("n_frequency", Rank, 2592), "scaling": ("scaling", float, 25.0),
         "seed": ("random_loc_seed", Seed, 777)}),
    PeftRow("c3a", "C3A", "W + a grid of circulant blocks, 0 at first (Chen et al., 2024)", "other",
        {"block": ("block_size", Block, 256)}, {"init_weights": True}),
    PeftRow("shira", "SHIRA", "W + a sparse matrix on a random support (Bhardwaj et al., NeurIPS 2024)", "other",
        {"rank": ("r", Rank, 32), "seed": ("random_seed", Seed, 0)}),
    PeftRow("ia3", "IA3", "l ⊙ k, l ⊙ v and l ⊙ the FFN's middle (Liu et al., NeurIPS 2022)", "scale and bias",
        at=SCALED,
        optim=both(3e-3)),
    PeftRow("beft", "BEFT", "a trained bias on every v (arXiv 2509.15974)", "scale and bias", at=V, optim=both(3e-3)),
    PeftRow("ln", "LN_TUNING", "copies of all norms, trained (Zhao et al., ICLR 2024)", "scale and bias",
        at=NORMS, optim=both(1e-3)),
)
# fmt: on
for position, row in enumerate(ROWS):
    method(f"peft:{row.name}", family=row.family, about=row.about, optim=row.optim, order=200 + position, listed=False)(
        row
    )


@method("peft:adalora", family="low rank", optim=LIKE_LORA, order=250, listed=False)
def adalora(
    shape: Shape,
    *,
    rank: Rank = 64,
    start: Weight = 1.5,
    alpha: Alpha = 32.0,
    dropout: Fraction = 0.1,
    warmup: Fraction = 0.1,
    final: Fraction = 0.5,
    every: Count = 10,
    orthogonality: Weight = 0.5,
) -> Spec:
    """``W + PΛQ``, singular values pruned by importance from ``start`` times ``rank`` per matrix to ``rank`` on average
    (Zhang et al., ICLR 2023).

    The first tenth of the training prunes nothing and the last half goes on with what is left, about as in the paper's
    GLUE runs; in between the budget shrinks ``every`` so many updates. ``orthogonality`` weighs the penalty on P and Q.
    No published run on VL-BART or VL-T5; learning rates are those of the suite's LoRA.
    """
    if int(start * rank) <= rank:
        raise MethodError(f"start {start} times rank {rank} is no higher rank, from which to prune to {rank}")
    if warmup + final >= 1:
        raise MethodError(f"warmup {warmup} and final {final} leave no time for pruning; their sum must be below 1")
    settings = {
        "init_r": int(start * rank),
        "target_r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "deltaT": every,
        "orth_reg_weight": orthogonality,
    }
    part = PeftAdaLoRA(type="ADALORA", at=Q_AND_V, settings=tuple(sorted(settings.items())), warmup=warmup, final=final)
    return Spec(parts=(part,))


@method("peft:prefix", family="prompt", optim=both(1e-3), order=251, listed=False)
def prefix(shape: Shape, *, length: Count = 20, hidden: Rank = 512) -> Spec:
    """Trained keys and values in front of the decoder's self-attention, through an MLP with ``hidden`` units (0: none)
    (Li & Liang, ACL 2021).

    As in PEFT the encoder and the cross-attention have no prefix, positions in BART's decoder start after it, and half
    of what the MLP gives is not used (PEFT cuts it for cross-attention, which it then leaves alone). No published run
    on VL-BART or VL-T5; learning rate of VL-Adapter's prompt.
    """
    return Spec(parts=(PeftPrefix(length=length, hidden=hidden),))
