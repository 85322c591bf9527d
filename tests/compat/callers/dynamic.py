"""Dynamic quantization as text, speech and recommendation systems call it, and as the tutorials show it."""

import copy
import io

import torch
from torch import nn


class Encoder(nn.Module):
    """A BERT-like encoder, written out."""

    def __init__(self, width=48, heads=4, layers=2, words=50):
        super().__init__()
        self.words, self.heads = nn.Embedding(words, width), heads
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "qkv": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "norm": nn.LayerNorm(width),
                    "up": nn.Linear(width, 4 * width),
                    "down": nn.Linear(4 * width, width),
                    "norm2": nn.LayerNorm(width),
                }
            )
            for _ in range(layers)
        )
        self.classify = nn.Linear(width, 2)

    def forward(self, tokens):
        x = self.words(tokens)
        for layer in self.layers:
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in layer["qkv"](x).chunk(3, -1))
            weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
            x = layer["norm"](x + layer["out"]((weights @ v).transpose(1, 2).flatten(2)))
            x = layer["norm2"](x + layer["down"](nn.functional.gelu(layer["up"](x))))
        return self.classify(x[:, 0])


class Recognizer(nn.Module):
    """A conv net with recurrent layers behind, as text recognition has it."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
        self.rnn = nn.LSTM(8 * 8, 24, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(48, 20)

    def forward(self, image):
        x = self.features(image).permute(0, 3, 1, 2).flatten(2)
        return self.linear(self.rnn(x)[0])


def bert():
    """The tutorial's call, and size on disk before and after."""
    model, tokens = Encoder().eval(), torch.randint(0, 50, (3, 11))
    quantized = torch.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def size(module):
        buffer = io.BytesIO()
        torch.save(module.state_dict(), buffer)
        return buffer.getbuffer().nbytes

    assert size(quantized) < 0.7 * size(model)
    return {"logits": quantized(tokens), "name": type(quantized.layers[0]["up"]).__name__}


def lstm():
    """The tutorial's language model: embedding float, LSTM and decoder dynamic."""
    import torch.ao.quantization

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Embedding(30, 16)
            self.rnn = nn.LSTM(16, 20, 2)
            self.decoder = nn.Linear(20, 30)

        def forward(self, tokens, hidden):
            output, hidden = self.rnn(self.encoder(tokens), hidden)
            return self.decoder(output), hidden

    model, tokens = Words().eval(), torch.randint(0, 30, (7, 1))
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    hidden = (torch.zeros(2, 1, 20), torch.zeros(2, 1, 20))
    logits, (h, c) = quantized(tokens, hidden)
    return {"close:logits": logits, "close:h": h, "close:c": c}


def easyocr():
    """The whole model, in place, by default rules; whatever fails would leave it float without a word."""
    net, image = Recognizer(), torch.randn(2, 1, 16, 20)
    torch.quantization.quantize_dynamic(net, dtype=torch.qint8, inplace=True)
    return {"close:text": net(image), "training": net.training, "rnn": type(net.rnn).__module__ != ""}


def espnet():
    """A set of classes, of which the model lacks one, in int8 and in float16."""
    from torch.nn import GRU, LSTM, Linear

    found = {}
    for dtype in (torch.qint8, torch.float16):
        net, image = Recognizer().eval(), torch.randn(1, 1, 16, 12)
        quantized = torch.quantization.quantize_dynamic(net, {Linear, LSTM, GRU}, dtype=dtype)
        found[f"close:{str(dtype).rpartition('.')[2]}"] = quantized(image)
        torch.manual_seed(1)
    return found


def pocket_tts():
    """Parts of a model, one by one."""
    model, tokens = Encoder().eval(), torch.randint(0, 50, (2, 9))
    for index, layer in enumerate(model.layers):
        model.layers[index] = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, dtype=torch.qint8)
    return {"logits": model(tokens)}


class Bags(nn.Module):
    """Tables of a recommendation system."""

    def __init__(self):
        super().__init__()
        self.bags = nn.ModuleList(nn.EmbeddingBag(40, 16, mode="sum", include_last_offset=True) for _ in range(2))

    def forward(self, values, offsets):
        return torch.cat([bag(values, offsets) for bag in self.bags], 1)


class OwnQuantizedBags(nn.Module):
    """A quantized class of the caller's own, for `mapping`, on the row-wise operators."""

    def __init__(self, tables):
        super().__init__()
        self.tables = tables

    @classmethod
    def from_float(cls, mod, use_precomputed_fake_quant=False):
        assert mod.qconfig.weight().dtype == torch.quint8
        return cls([torch.ops.quantized.embedding_bag_byte_prepack(bag.weight.detach()) for bag in mod.bags])

    def forward(self, values, offsets):
        rows = [
            torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
                table, values, offsets, mode=0, include_last_offset=True
            )
            for table in self.tables
        ]
        return torch.cat(rows, 1)


def torchrec():
    """qconfig_spec from class to QConfig, and a mapping to a class of the caller's own."""
    from torch.ao.quantization import PlaceholderObserver, QConfig

    qconfig = QConfig(
        activation=PlaceholderObserver.with_args(dtype=torch.float),
        weight=PlaceholderObserver.with_args(dtype=torch.quint8),
    )
    model = nn.Sequential()
    model.add_module("tables", Bags())
    quantized = torch.quantization.quantize_dynamic(
        model, qconfig_spec={Bags: qconfig}, mapping={Bags: OwnQuantizedBags}, inplace=False
    )
    assert isinstance(quantized.tables, OwnQuantizedBags) and isinstance(model.tables, Bags)
    values, offsets = torch.randint(0, 40, (9,)), torch.tensor([0, 2, 2, 9])
    return {"sums": quantized.tables(values, offsets)}


def embeddings():
    """Tables in 8 bits by a qconfig, the class found by its old name."""
    from torch.quantization import float_qparams_weight_only_qconfig

    model, values = Bags(), torch.randint(0, 40, (9,))
    for bag in model.bags:
        bag.qconfig = float_qparams_weight_only_qconfig
    quantized = torch.quantization.quantize_dynamic(
        copy.deepcopy(model), {nn.EmbeddingBag: float_qparams_weight_only_qconfig}, dtype=torch.quint8
    )
    assert all(isinstance(bag, torch.nn.quantized.EmbeddingBag) for bag in quantized.bags)
    return {"sums": quantized(values, torch.tensor([0, 4, 9]))}
