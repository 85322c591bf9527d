"""Graph modules by the names that torch has for their stages: one class serves all."""

from __future__ import annotations

from qcore.fx.graph_module import QuantizedGraphModule

__all__ = ["FusedGraphModule", "ObservedGraphModule", "ObservedStandaloneGraphModule", "QuantizedGraphModule"]

FusedGraphModule = QuantizedGraphModule
ObservedGraphModule = QuantizedGraphModule
ObservedStandaloneGraphModule = QuantizedGraphModule
