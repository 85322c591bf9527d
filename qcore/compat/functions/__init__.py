"""Functions, dtypes and schemes that torch has at its top level."""
