"""How a model is trained and evaluated, as plain validated data."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NOT_IN_ID = {"name", "eval_batch_size", "checkpoint_every"}  # fields of a recipe that cannot change a result
LARGEST_COUNT = 10**9  # of updates and examples
LARGEST_NUMBER = 10**5  # of epochs, examples of a batch, beams, and visual tokens
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Number = Annotated[int, Field(ge=1, le=LARGEST_NUMBER)]


class FrozenModel(BaseModel):
    """A frozen record of validated fields; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(FrozenModel):
    """How a model is trained and evaluated. Defaults are those of the official image-text scripts on BART.

    ``projector_lr`` is the learning rate of the visual projector where it differs from ``lr``: the projector starts
    from nothing, the backbone does not. ``epochs`` counts passes over all tasks' training data; ``steps``, if given, is
    the number of updates instead. ``validate`` evaluates on the validation splits after every epoch; ``select`` "best"
    then reports the epoch with the best mean (official video runs), "last" the last weights. ``visual`` "zero" blinds
    the model: all features are 0. ``evaluate`` "tuning" is for runs that choose settings: they are scored and validated
    on what no table reports (:mod:`bench.data.held_out`), and are in no table of results.

    ``decay`` says which parameters have weight decay (:func:`bench.optim.groups`), ``beam_length`` how beam search
    ranks answers that reach the length limit (:func:`bench.backbones.generation_arguments`). ``precision`` "tf32" is
    float32 whose matrix products a GPU may round (:func:`bench.device.matrix_products`), "bf16" is torch.autocast to
    bfloat16, in which frozen linear layers are held, too (:func:`bench.backbones.hold_in_bf16`). With ``padding``
    "masked" nothing attends to the padded frames of short videos (:class:`bench.backbones.VLModel`). With
    ``truncation`` "official" the end of a source text that is too long is cut, with "keep-question" its transcript,
    and nothing else (:class:`bench.data.batches.TokenizedSplit`).
    """

    name: str = "paper"
    epochs: Number = 20
    steps: Count | None = None
    batch_size: Number = 500
    eval_batch_size: Number = 200
    lr: Annotated[float, Field(gt=0)]
    projector_lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    clip: Annotated[float, Field(ge=0)] = 5.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    optimizer: Literal["adamw", "adamw-official"] = "adamw"
    decay: Literal["official", "weights-only"] = "official"
    beams: Number = 5
    validate_: Annotated[Literal["never", "epoch"], Field(alias="validate")] = "never"
    select: Literal["last", "best"] = "last"
    beam_length: Literal["library", "transformers-4"] = "library"
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    task_prefix: bool = True
    padding: Literal["official", "masked"] = "official"
    truncation: Literal["official", "keep-question"] = "official"
    n_boxes: Number = 36
    n_frames: Number = 64
    visual: Literal["features", "zero"] = "features"
    evaluate: Literal["report", "tuning"] = "report"
    limit: Count | None = None
    checkpoint_every: Annotated[int, Field(ge=0, le=LARGEST_COUNT)] = 1000

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "Recipe":
        if self.select == "best" and self.validate_ == "never":
            raise ValueError('select = "best" needs validate = "epoch"')
        return self

    @classmethod
    def options(cls) -> list[str]:
        """Return the fields that a user sets, as they are written; ``name`` only says where the values are from."""
        return [field.alias or name for name, field in cls.model_fields.items() if name != "name"]
