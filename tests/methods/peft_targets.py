"""Patterns of the modules at which HF PEFT is to stand."""

QUERY_AND_VALUE = {
    "bart": r"model\.(en|de)coder\.layers\.\d+\.(self|encoder)_attn\.[qv]_proj",
    "t5": r"(en|de)coder\.block\.\d+\.layer\.[01]\.(Self|EncDec)Attention\.[qv]",
}
TARGETS = {
    "peft:ia3": {
        "bart": r"model\.(en|de)coder\.layers\.\d+\.((self|encoder)_attn\.[kv]_proj|fc2)",
        "t5": r"(en|de)coder\.block\.\d+\.layer\.\d\.((Self|EncDec)Attention\.[kv]|DenseReluDense\.wo)",
    },
    "peft:beft": {family: pattern.replace("[qv]", "v") for family, pattern in QUERY_AND_VALUE.items()},
    "peft:ln": {family: r".*(layer_norm|layernorm_embedding)" for family in QUERY_AND_VALUE},
}
