"""The Python half of the SDK for native backends: operators over a module that binds the kernels of qcore/include."""
