"""torch.ops.quantized and the functions of torch called directly."""

import copy
import pickle

import torch


def quantized(shape, dtype=torch.quint8, scale=0.0471, zero_point=63):
    """7-bit activations, which no engine of torch saturates on."""
    return torch.quantize_per_tensor(torch.randn(*shape).clamp(-3, 3), scale, zero_point, dtype)


def weights(*shape, axis=0):
    return torch.quantize_per_channel(
        torch.randn(*shape),
        torch.rand(shape[axis]) * 0.02 + 0.01,
        torch.zeros(shape[axis], dtype=torch.long),
        axis,
        torch.qint8,
    )


def ints(x):
    return {"ints": x.int_repr(), "scale": x.q_scale(), "zero_point": x.q_zero_point()}


def flat(results):
    """Each quantized result as its integers and parameters."""
    found = {}
    for name, value in results.items():
        if isinstance(value, torch.Tensor) and value.is_quantized:
            found |= {f"{name}.{key}": part for key, part in ints(value).items()}
        else:
            found[name] = value
    return found


def functions():
    """Making and reading quantized tensors."""
    x = torch.randn(3, 4)
    q = torch.quantize_per_tensor(x, 0.1, 10, torch.quint8)
    c = torch.quantize_per_channel(x, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2]), 0, torch.qint8)
    empty = torch._empty_affine_quantized([2, 3], scale=0.5, zero_point=3, dtype=torch.qint8)
    made = torch._make_per_tensor_quantized_tensor(torch.tensor([1, 2, 3], dtype=torch.uint8), 0.5, 1)
    many = torch._make_per_channel_quantized_tensor(
        torch.ones(2, 3, dtype=torch.int8), torch.tensor([0.5, 1.0]), torch.tensor([0, 1]), 0
    )
    dynamic = torch.quantize_per_tensor_dynamic(x, torch.quint8, False)
    low = torch.quantize_per_tensor_dynamic(x, torch.qint8, True)
    assert q.dtype == torch.quint8 and q.qscheme() == torch.per_tensor_affine and q.is_quantized
    assert c.qscheme() == torch.per_channel_affine and many.q_per_channel_axis() == 0
    both = torch.quantize_per_tensor([x, x + 1], torch.tensor([0.1, 0.2]), torch.tensor([1, 2]), torch.quint8)
    return flat(
        {
            "q": q,
            "dequantized": torch.dequantize(q),
            "c": torch.dequantize(c),
            "scales": torch.q_per_channel_scales(c),
            "zero_points": torch.q_per_channel_zero_points(c),
            "empty": [*empty.shape, empty.q_scale(), torch.q_scale(q)],
            "made": made.dequantize(),
            "many": many.dequantize(),
            "dynamic": dynamic,
            "low": low,
            "list": both[1],
            "pool": torch.quantized_max_pool2d(quantized((1, 2, 6, 6)), [2, 2], [2, 2]),
        }
    )


def fake_quantize():
    """The training functions, with gradients."""
    x = torch.randn(4, 5, requires_grad=True)
    one = torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 255)
    two = torch.fake_quantize_per_tensor_affine(x, torch.tensor(0.05), torch.tensor(3, dtype=torch.int32), -8, 7)
    rows = torch.fake_quantize_per_channel_affine(
        x, torch.rand(4) + 0.01, torch.zeros(4, dtype=torch.int32), 0, -128, 127
    )
    (one.sum() + two.square().sum() + rows.cos().sum()).backward()
    found = {"one": one.detach(), "two": two.detach(), "rows": rows.detach(), "grad": x.grad}
    for per_row, size in ((False, 1), (True, 4)):
        state = [
            torch.full((size,), torch.inf),
            torch.full((size,), -torch.inf),
            torch.ones(size),
            torch.zeros(size, dtype=torch.int),
        ]
        for step in range(3):
            fused = torch.fused_moving_avg_obs_fake_quant(
                x.detach() * (step + 1), torch.tensor(1), torch.tensor(1), *state, 0.01, 0, 255, 0, per_row, False
            )
        found |= {f"fused {per_row}": fused, f"low {per_row}": state[0], f"scale {per_row}": state[2]}
        found[f"zero point {per_row}"] = state[3]
    return found


def elementwise():
    """Adding, multiplying, joining."""
    ops = torch.ops.quantized
    a, b = quantized((2, 16, 8, 8)), quantized((2, 16, 8, 8), scale=0.0393, zero_point=60)
    out = torch._empty_affine_quantized([2, 16, 8, 8], scale=0.1037, zero_point=30, dtype=torch.quint8)
    ops.add_out(a, b, out)
    return flat(
        {
            "add": ops.add(a, b, 0.1037, 64),
            "add_relu": ops.add_relu(a, b, scale=0.1037, zero_point=0),
            "out": out,
            "mul": ops.mul(a, b, 0.1037, 64),
            "mul_relu": ops.mul_relu(a, b, 0.1037, 0),
            "scalar": ops.add_scalar(a, 1.5),
            "scalar_relu": ops.add_scalar_relu(a, -9.0),
            "mul_scalar": ops.mul_scalar(a, -2.0),
            "by": ops.mul(a, 2.0),
            "mul_scalar_relu": ops.mul_scalar_relu(a, 0.3),
            "two": ops.add(1.5, a),
            "overload": ops.add.Scalar(a, 0.5),
            "cat": ops.cat([a, b], 1, 0.0613, 61),
            "cat_relu": ops.cat_relu([a, b], 0, 0.0613, 5),
            "plain cat": ops.cat([a, b], 1, None, None),
            "clamp": ops.clamp(a, -0.5, 1.0),
            "matmul": ops.matmul(a, b, 0.2, 60),
            "pool": ops.max_pool2d(a, [2, 2], [2, 2], [0, 0], [1, 1], False),
        }
    )


def activations():
    """Functions of one variable, normalization."""
    ops, x = torch.ops.quantized, quantized((2, 6, 8, 8))
    weight, bias, mean, var = torch.rand(6) + 0.5, torch.randn(6), torch.randn(6), torch.rand(6) + 0.5
    slope = torch.quantize_per_tensor(torch.rand(6), 0.01, 0, torch.quint8)
    norm = (weight, bias, mean, var, 1e-5, 0.1, 50)
    return flat(
        {
            "relu6": ops.relu6(x),
            "leaky": ops.leaky_relu(x, 0.1, False, 0.03, 20),
            "elu": ops.elu(x, 0.03, 20, 0.7),
            "celu": ops.celu(x, 0.03, 20, 0.7),
            "hardswish": ops.hardswish(x, 0.03, 10),
            "sigmoid": ops.sigmoid(x, 1 / 256, 0),
            "softmax": ops.softmax(x, 1, 1 / 256, 0),
            "threshold": ops.threshold(x, 0.2, -0.1),
            "prelu": ops.prelu(x, slope, 0.04, 40),
            "dropout": ops.dropout(x, 0.1037, 0),
            "bn": ops.batch_norm(x, *norm),
            "bn2d": ops.batch_norm2d(x, *norm),
            "bn2d_relu": ops.batch_norm2d_relu(x, *norm),
            "bn1d": ops.batch_norm1d(x.flatten(2), *norm),
            "bn3d_relu": ops.batch_norm3d_relu(x.unsqueeze(4), *norm),
            "ln": ops.layer_norm(x, [8], torch.ones(8), torch.zeros(8), 1e-5, 0.04, 60),
            "gn": ops.group_norm(x, 2, weight, bias, 1e-5, 0.05, 60),
            "in": ops.instance_norm(x, weight, bias, 1e-5, 0.05, 60),
        }
    )


def linear():
    """Packing, and the layers on what was packed; copies and pickles of it."""
    ops, x, real = torch.ops.quantized, quantized((3, 4, 16)), torch.randn(3, 4, 16)
    w, b = weights(8, 16), torch.randn(8)
    packed, half = ops.linear_prepack(w, b), ops.linear_prepack_fp16(torch.randn(8, 16), b)
    back, bias = ops.linear_unpack(copy.deepcopy(packed))
    wide, _ = ops.linear_unpack_fp16(half)
    return flat(
        {
            "linear": ops.linear(x, packed, 0.2, 60),
            "relu": ops.linear_relu(x, packed, 0.1, 3),
            "dynamic": ops.linear_dynamic(real, packed, True),
            "dynamic relu": ops.linear_relu_dynamic(real, packed, reduce_range=True),
            "close:fp16": ops.linear_dynamic_fp16(real, half),
            "close:fp16 relu": ops.linear_relu_dynamic_fp16(real, half),
            "copied": ops.linear(x, copy.deepcopy(packed), 0.2, 60),
            "back": back.dequantize(),
            "bias": bias,
            "wide": wide,
            "close:around": ops.linear_with_input_q_dq_qweight_dq_output_fp32(real, 0.05, 63, packed),
        }
    )


def conv():
    """Convolutions of all ranks, transposed ones, and their sizes read back."""
    ops, found = torch.ops.quantized, {}
    for rank, name in ((1, "conv1d"), (2, "conv2d"), (3, "conv3d")):
        x, real = quantized((2, 4) + (6,) * rank), torch.randn((2, 4) + (6,) * rank)
        ones, zeros, two = [1] * rank, [0] * rank, [2] * rank
        packed = getattr(ops, f"{name}_prepack")(weights(8, 2, *[3] * rank), torch.randn(8), two, ones, ones, 2)
        found[name] = getattr(ops, name)(x, packed, 0.2, 60)
        found[f"{name}_relu"] = getattr(ops, f"{name}_relu")(x, packed, 0.1037, 0)
        found[f"close:{name}_dynamic"] = getattr(ops, f"{name}_dynamic")(real, packed, True)
        found[f"{name}_bias"] = getattr(ops, f"{name}_unpack")(packed)[1]
        per_tensor = torch.quantize_per_tensor(torch.randn(4, 3, *[3] * rank), 0.02, 0, torch.qint8)
        transposed = getattr(ops, f"conv_transpose{rank}d_prepack")(
            per_tensor, torch.randn(3), two, ones, ones, ones, 1
        )
        found[f"transposed {rank}"] = getattr(ops, f"conv_transpose{rank}d")(x, transposed, 0.2, 60)
        if rank == 2:
            found["sizes"] = [
                ops.conv2d_stride(packed),
                ops.conv2d_padding(packed),
                ops.conv2d_dilation(packed),
                ops.conv2d_groups(packed),
                ops.conv2d_transpose(packed),
                ops.conv_transpose2d_transpose(transposed),
                ops.conv_transpose2d_output_padding(transposed),
                zeros,
            ]
            found["new"] = ops.conv2d.new(x, packed, 0.2, 60)
    return flat(found)


def embedding():
    """Packed tables, and tables packed by row."""
    ops, table = torch.ops.quantized, torch.randn(12, 8)
    indices, offsets, by = torch.randint(0, 12, (10,)), torch.tensor([0, 3, 3, 8]), torch.rand(10)
    found = {}
    low, high = table.amin(1), table.amax(1)
    scales, zeros = (high - low) / 255, -low / ((high - low) / 255)
    eight = torch.quantize_per_channel(table, scales, zeros, 0, torch.quint8)
    packed = ops.embedding_bag_prepack(eight)
    found["byte"] = ops.embedding_byte(packed, indices)
    found["bag"] = ops.embedding_bag_byte(packed, indices, offsets, per_sample_weights=by)
    for bits, rows in (
        ("byte", ops.embedding_bag_byte_prepack(table)),
        ("4bit", ops.embedding_bag_4bit_prepack(table)),
    ):
        found[f"{bits} rows"] = rows
        found[f"{bits} unpacked"] = getattr(ops, f"embedding_bag_{bits}_unpack")(rows)
        sums = getattr(ops, f"embedding_bag_{bits}_rowwise_offsets")
        found[f"{bits} sums"] = sums(rows, indices, offsets)
        found[f"{bits} weighted"] = sums(rows, indices, offsets, per_sample_weights=by)
    found["min max"] = ops.embedding_bag_byte_prepack_with_rowwise_min_max(table, torch.stack((low - 1, high + 1), 1))
    return found


def recurrent():
    """Single cells on packed weights."""
    ops, x, h = torch.ops.quantized, torch.randn(3, 6), torch.randn(3, 5)
    bias = torch.randn(20), torch.randn(20)
    w_ih, w_hh = (torch.quantize_per_tensor(torch.randn(20, n), 0.02, 0, torch.qint8) for n in (6, 5))

    def packed(rows):
        return [
            ops.linear_prepack(w_ih[:rows].clone(), bias[0][:rows]),
            ops.linear_prepack(w_hh[:rows].clone(), bias[1][:rows]),
        ]

    next_h, next_c = ops.quantized_lstm_cell_dynamic(x, [h, h], *packed(20), *bias)
    return {
        "close:h": next_h,
        "close:c": next_c,
        "close:gru": ops.quantized_gru_cell_dynamic(x, h, *packed(15), bias[0][:15], bias[1][:15]),
        "close:relu": ops.quantized_rnn_relu_cell_dynamic(x, h, *packed(5), bias[0][:5], bias[1][:5]),
        "close:tanh": ops.quantized_rnn_tanh_cell_dynamic(x, h, *packed(5), bias[0][:5], bias[1][:5]),
    }


def traced():
    """torch.fx records the operators, and the graph runs and pickles; quantized layers are leaves."""
    import torch.fx

    class Adds(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.quantized.Linear(4, 4)

        def forward(self, x):
            x = torch.quantize_per_tensor(x, 0.1, 60, torch.quint8)
            x = torch.ops.quantized.add(x, x, 0.2, 60)
            return torch.ops.quantized.cat([self.fc(x), x], 1, 0.2, 60).dequantize()

    model = Adds()
    model.fc.set_weight_bias(torch.quantize_per_tensor(torch.randn(4, 4), 0.02, 0, torch.qint8), torch.randn(4))
    graph = torch.fx.symbolic_trace(model)
    targets = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    assert targets == ["fc"]
    x = torch.randn(2, 4)
    assert torch.equal(graph(x), model(x))
    add = pickle.loads(pickle.dumps(torch.quantize_per_tensor))
    assert add is torch.quantize_per_tensor and copy.deepcopy(torch.ops.quantized.add) is torch.ops.quantized.add
    return {"result": graph(x)}
