"""Why a name of torch's is not in qcore, and what to use instead: rules by name; the first that fits wins."""

from __future__ import annotations

import re

_JIT = "quantize the module first (quantize_dynamic, prepare_fx), then script or trace what comes out of it"
_INTERNAL = (
    "it is an inner part of torch's own prepare_fx and convert_fx; use those, with QConfigMapping, PrepareCustomConfig "
    "and BackendConfig"
)

_RULES: tuple[tuple[str, str], ...] = (
    (r".*\.(Affine\w+|Granularity|MappingType|Per(Axis|Block|Group|Row|Tensor|Token)|TorchAODType|ZeroPointDomain)",
     "it serves torchao's low-bit formats only: install torchao and import it from torchao.quantization"),
    (r".*\.get_block_size", "it serves torchao's low-bit formats only: install torchao and import it from there"),
    (r".*(_jit|\.script_qconfig(_dict)?)", f"TorchScript is not quantized in place: {_JIT}"),
    (r".*quantize_jit\..*", f"TorchScript is not quantized in place: {_JIT}"),
    (r".*(?i:sparse).*", "there are no sparse kernels; use the dense modules of torch.ao.nn.quantized"),
    (r".*\.get_executorch_backend_config.*", "ExecuTorch quantizes by itself: use its own quantizers"),
    (r".*tensorrt.*", "TensorRT quantizes by itself; its plugin for qcore would bring a BackendConfig of its own"),
    (r".*_qnnpack_pt2e\..*", "PT2E quantization lives in torchao: torchao.quantization.pt2e"),
    (r".*\.(ConvAdd2d|ConvAddReLU2d|LinearLeakyReLU|LinearTanh|conv2d_add(_relu)?|linear_leaky_relu|linear_tanh)(\..*)?",
     "only the onednn engine fused this; use the layer and the operation after it, with the same results"),
    (r".*fx\._equalize\..*",
     "use torch.ao.quantization._equalize.equalize before prepare, which balances pairs of layers"),
    (r".*(_model_report)\..*",
     "use model.qcore_report for what was quantized and why, torch.ao.ns._numeric_suite for errors"),
    (r".*\.(MatchAllNode|get_fuser_method_new|NodePattern|Pattern|check_node)",
     "patterns are tuples of classes and functions: BackendPatternConfig"),
    (r".*_equalize\.(expand_groups|get_|has_|process_|set_).*", "use equalize and cross_layer_equalization"),
    (r".*ops\.quantized\.make_quantized_cell_params.*",
     "pass weights by linear_prepack to the cell operators, or use LSTM and GRU of "
     "torch.ao.nn.quantized.dynamic"),
    (r"torch\.quantization\.WeightObserver", "torch names it and has none either; use default_weight_observer"),
    (r".*\.DEPRECATION_WARNING|.*REFERENCE_STATIC.*|.*static_quant_reference_module_mappings",
     "convert_to_reference_fx makes reference modules of every kind of layer"),
    (r".*ns\..*|.*_numeric_suite_fx\..*",
     "compare graphs by extract_weights, prepare_model_outputs and compare_model_outputs of "
     "torch.ao.ns._numeric_suite, which take graph modules too"),
    (r".*quantization\.fx\..*|.*quantize_fx\..*", _INTERNAL),
    (r".*backend_config\..*",
     "what a backend takes is declared by its plugin: get_native_backend_config, BackendConfig"),
    (r".*reference\..*|.*\._reference\..*", "convert_to_reference_fx makes reference modules of every kind of layer"),
    (r".*nn\.quantized\.dynamic\.(.*\.)?Conv.*", "convolutions are quantized statically: torch.ao.nn.quantized.Conv2d"),
    (r".*dynamic\.(.*\.)?(PackedParameter|RNNBase|RNNCellBase|pack_weight_bias|apply_permutation)",
     "weights are kept unpacked: use the LSTM, GRU and cells of torch.ao.nn.quantized.dynamic, their get_weight"
     " and get_bias"),
    (r".*ops\.quantized\..*_legacy(\..*)?|.*\.legacy",
     "the packed tensor of this old form says nothing of its layout; use linear_prepack and linear_prepack_fp16"),
    (r".*ops\.quantized\.(int4mm|embedding_bag_2bit).*|torch\.quint2x4|torch\.QUInt2x4Storage",
     "int4 matrices and 2-bit tables have no kernel; use quint4x2 tables, or torchao for weight-only int4"),
    (r"torch\.(fbgemm_|_wrapped_|_saturate).*",
     "it is an inner function of old TorchScript archives; use torch.ao.nn.quantized.dynamic.Linear"),
    (r"torch\.quantized_(lstm|gru|rnn).*", "use LSTM, GRU and the cells of torch.ao.nn.quantized.dynamic"),
    (r"torch\.Q.*Storage", "integers lie in plain tensors: QTensor.int_repr() and QTensor.untyped_storage()"),
    (r"torch\.choose_qparams_optimized",
     "no search for 4-bit parameters is there; observe with default_float_qparams_observer_4bit"),
    (r"torch\._fake_quantize_.*",
     "it is an inner function of fake-quantize modules; use torch.fake_quantize_per_tensor_affine"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern), reason) for pattern, reason in _RULES)


def reason_against(module: str, name: str) -> str:
    """What to use instead of a name; LookupError for one that no rule covers, which a test holds not to happen."""
    full = f"{module}.{name}"
    for pattern, reason in _PATTERNS:
        if pattern.fullmatch(full):
            return reason
    raise LookupError(f"qcore.compat has neither {full} nor a reason why not")
