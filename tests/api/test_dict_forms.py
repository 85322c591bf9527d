"""Dict forms of configs, with any value anywhere: a config, or an error of ours in words."""

from __future__ import annotations

from random import Random

import pytest

import qcore
from qcore.api import backend_config, custom_config
from tests.fuzz.spoil_calls import POOL

FORMS = {
    qcore.QConfigMapping: ("", "object_type", "module_name", "module_name_regex", "module_name_object_type_order"),
    custom_config.PrepareCustomConfig: (
        "standalone_module_name",
        "standalone_module_class",
        "float_to_observed_custom_module_class",
        "non_traceable_module_name",
        "input_quantized_idxs",
        "preserved_attributes",
    ),
    custom_config.ConvertCustomConfig: ("observed_to_quantized_custom_module_class", "preserved_attributes"),
    custom_config.FuseCustomConfig: ("preserved_attributes",),
    backend_config.BackendConfig: ("name", "configs"),
    backend_config.BackendPatternConfig: ("pattern", "dtype_configs", "observation_type"),
    backend_config.DTypeConfig: ("input_dtype", "weight_dtype", "is_dynamic"),
}


@pytest.mark.parametrize("kind", FORMS)
def test_from_dict(kind):
    rng = Random(kind.__name__)
    refused = 0
    forms = [make() for make in POOL]
    for _ in range(300):
        value = rng.choice(POOL)()
        nested = rng.choice((value, [value], [(value, value)], {"x": value}, [{"x": value}], {"static": {str: value}}))
        forms.append({rng.choice(FORMS[kind]): nested})
    for form in forms:
        try:
            kind.from_dict(form)
        except qcore.QcoreError as error:
            refused += 1
            assert len(str(error)) > 20
    assert refused > len(POOL) // 2
