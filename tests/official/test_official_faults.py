"""Official state dicts that do not fit: the error names the tensor or the method."""

import pytest
import torch
from official_dicts import FEATS, TINY, D, Official, R, case

from bench import official
from bench.errors import UsageError

NAME = "model.decoder.layers.1.enc_attn_adapter.adapters.gqa.up_sampler.weight"


def missing(sd):
    del sd[NAME]
    return NAME


def left_over(sd):
    name = "model.decoder.layers.1.enc_attn_adapter.pre_layer_norm.weight"
    sd[name] = torch.ones(D)
    return name


def of_another_shape(sd):
    sd[NAME] = torch.zeros(D + 1, D)
    return NAME


def the_first_of_another_shape(sd):
    name = next(name for name in sd if name.endswith("down_sampler.weight"))
    sd[name] = torch.zeros(R + 1, D)
    return name


def unequal_task_copies(sd):
    sd[NAME] = sd[NAME] + 1
    return NAME


def unequal_ties(sd):
    name = "model.encoder.visual_embedding.obj_order_embedding.weight"  # the last of the tied ones to be looked at
    sd[name] = sd[name] + 1
    return name


FAULTS = [missing, left_over, of_another_shape, the_first_of_another_shape, unequal_task_copies, unequal_ties]


@pytest.mark.parametrize("fault", FAULTS)
def test_errors_name_the_tensor(fault):
    sd = case("bart", "vl-adapter")
    name = fault(sd)
    with pytest.raises(UsageError) as error:
        sd.load("vl-adapter")
    assert f"1 {'missing' if fault is missing else ''}" in str(error.value)
    assert name in str(error.value)
    assert "; " not in str(error.value), "one fault, one reason"


def test_a_missing_head_is_named():
    sd = case("bart", "vl-pet-large")
    del sd["model.encoder.layers.1.attn_adapter_multihead_down.2.bias"]
    with pytest.raises(UsageError, match=r"1 missing: model\.encoder\.layers\.1\.attn_adapter_multihead_down\.2\.bias"):
        sd.load("vl-pet-large")


def test_a_state_dict_without_its_buffer_loads():
    sd = Official("bart")
    del sd["final_logits_bias"]
    assert not sd.load("full").lm.final_logits_bias.any()


def test_another_family_is_refused():
    with pytest.raises(UsageError, match="no official state dict of a t5 model"):
        official.load(dict(Official("bart")), backbone=TINY["t5"](), method="full", feat_dim=FEATS)


@pytest.mark.parametrize("method", ["ia3", "vl-pet-tiny", "no-such-method"])
def test_methods_without_a_readable_counterpart_are_refused(method):
    with pytest.raises(UsageError, match=f"'{method}'.*vl-pet-large"):
        Official("bart").load(method)
