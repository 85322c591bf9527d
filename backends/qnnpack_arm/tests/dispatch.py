"""On an ARM CPU, without torch: prints the instruction sets that the module finds, and runs a linear layer on each.

`dispatch.py MODULE`: the compiled module. A kernel of an instruction set that the CPU lacks dies of SIGILL.
"""

import ctypes
import importlib.util
import sys
import types


class Tensor:
    """What the kernels read of a tensor."""

    is_cpu = True

    def __init__(self, dtype, shape, values):
        self.dtype, self.shape = dtype, shape
        self.memory = (dtype * len(values))(*values)

    def stride(self):
        return tuple(
            1 if i == len(self.shape) - 1 else self.shape[i + 1] for i in range(len(self.shape))
        )  # of at most two dimensions

    def data_ptr(self):
        return ctypes.addressof(self.memory)


FLOAT16 = type("float16", (), {})
sys.modules["torch"] = types.SimpleNamespace(
    uint8=ctypes.c_uint8, int8=ctypes.c_int8, int32=ctypes.c_int32, int64=ctypes.c_int64, float16=FLOAT16,
    float32=ctypes.c_float, float64=ctypes.c_double, Tensor=Tensor,
)  # fmt: skip
spec = importlib.util.spec_from_file_location("_native", sys.argv[1])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)

ROWS, IN, OUT, ZERO = 13, 75, 37, 131
x = [0 if i % 5 else i * 29 % 256 for i in range(ROWS * IN)]  # with the weights, many sums that would leave 16 bits
weight = [-128 if i % 3 else i * 37 % 256 - 128 for i in range(OUT * IN)]
sums = [sum((x[r * IN + k] - ZERO) * weight[c * IN + k] for k in range(IN)) for r in range(ROWS) for c in range(OUT)]
SCALE = 2.0**13  # of the result: a power of two, so that rounding is exact
expected = [max(0, min(255, round(total / SCALE) + 128)) for total in sums]

for isa in native.supported_isas():
    linear = native.kernels(isa).linear(
        Tensor(ctypes.c_int8, (OUT, IN), weight),
        Tensor(ctypes.c_float, (OUT,), [1.0] * OUT),
        Tensor(ctypes.c_int32, (OUT,), [0] * OUT),
        False,
        None,
        False,
    )
    y = Tensor(ctypes.c_uint8, (ROWS, OUT), [0] * (ROWS * OUT))
    linear.run(Tensor(ctypes.c_uint8, (ROWS, IN), x), 1.0, ZERO, SCALE, 128, y, 2)
    assert list(y.memory) == expected, isa
    print(isa)
