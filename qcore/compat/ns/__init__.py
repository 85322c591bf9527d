"""Numeric suites: a float model beside its quantized form, weights and outputs layer by layer."""
