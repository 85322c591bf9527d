"""Embedding and EmbeddingBag: row by row, each bag in its own order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from qcore.conformance.case import LAYOUTS, Bad, Case, Expected, Facet, Family, Recipe
from qcore.conformance.draw import Draw, laid_out
from qcore.conformance.exact import f32, fma
from qcore.operators import Embedding, EmbeddingBag, FloatEmbedding
from qcore.tensor.dtypes import quint4x2
from qcore.tensor.qparams import QParams, per_channel


@dataclass(frozen=True, kw_only=True)
class TableRecipe(Recipe):
    """`shape`: of the indices; `rows` and `dim` of the table; `index`: their dtype.

    `pruned`: dtype of the mapping of a pruned table, which then has twice as many indices as rows, or None.
    """

    rows: int = 23
    dim: int = 17
    index: torch.dtype = torch.int64
    pruned: torch.dtype | None = None


@dataclass(frozen=True, kw_only=True)
class BagRecipe(TableRecipe):
    """`lengths`: of the bags of 1-D indices, None for 2-D ones; `weighted`: whether there are per_sample_weights."""

    lengths: tuple[int, ...] | None = None
    weighted: bool = False
    mode: str = "sum"
    include_last: bool = False


def row_constants(qweight: QParams) -> tuple[Tensor, Tensor]:
    """Scale s and offset -(z * s) of each row, in float32; of 4-bit rows as float16 holds them."""
    scale = f32(qweight.scale)
    offset = -(f32(qweight.zero_point) * scale)
    if qweight.dtype == quint4x2:
        return scale.half().float(), offset.half().float()
    return scale, offset


def row_of(operator: Embedding | EmbeddingBag, index: int) -> int:
    """The row of an index, -1 for a pruned one."""
    return index if operator.mapping is None else int(operator.mapping[index])


def looked_up(indices: Tensor, operator: Embedding) -> Tensor:
    """fma(s, q, b), 0 for a pruned index."""
    scale, offset = row_constants(operator.qweight)
    found = []
    for index in indices.flatten().tolist():
        row = row_of(operator, index)
        real = fma(scale[row], operator.weight[row].float(), offset[row])
        found.append(real if row >= 0 else torch.zeros_like(real))
    dim = operator.weight.shape[1]
    return torch.stack(found).reshape(*indices.shape, dim) if found else torch.zeros(*indices.shape, dim)


def bagged(bags: list[list[int]], weights: list[list[float]] | None, operator: EmbeddingBag) -> Tensor:
    """y = fma(p * s, q, y + p * b) for each row of a bag in turn; a mean is divided by the length of the bag."""
    scale, offset = row_constants(operator.qweight)
    result = torch.zeros(len(bags), operator.weight.shape[1])
    for number, bag in enumerate(bags):
        y = result[number]
        for position, index in enumerate(bag):
            row = row_of(operator, index)
            if row >= 0:
                p = f32(1.0 if weights is None else weights[number][position])
                y = fma(p * scale[row], operator.weight[row].float(), y + p * offset[row])
        result[number] = y / f32(len(bag)) if operator.mode == "mean" and bag else y
    return result


def _table(draw: Draw, facet: Facet, recipe: TableRecipe) -> tuple[Tensor, QParams, Tensor | None]:
    assert facet.weight is not None
    dtype = facet.weight.dtype
    rows = recipe.rows
    weight = draw.integers((rows, recipe.dim), dtype).contiguous()
    scales = 10.0 ** torch.tensor(draw.uniform(-3.0, -1.0, rows), dtype=torch.float64)
    zeros = torch.tensor(draw.uniform(dtype.qmin, dtype.qmax, rows)).float()
    mapping = None
    if recipe.pruned is not None:
        mapping = torch.arange(2 * rows) // 2
        mapping[(draw.floats((2 * rows,)) > 0.3) | (torch.arange(2 * rows) == 1)] = -1
        mapping = mapping.to(recipe.pruned)
    return weight, per_channel(scales, zeros, 0, dtype), mapping


def _indices(draw: Draw, recipe: TableRecipe, shape: tuple[int, ...]) -> Tensor:
    count = recipe.rows * (1 if recipe.pruned is None else 2)
    drawn = (draw.floats(shape).abs() * 1e4).long() % count
    if drawn.numel() > 1:  # the first and the last one are where a table ends
        drawn.view(-1)[0], drawn.view(-1)[-1] = 0, count - 1
    return laid_out(drawn.to(recipe.index), recipe.layout)


def _make_embedding(facet: Facet, recipe: TableRecipe) -> Case:
    draw = Draw(recipe)
    operator = Embedding(*_table(draw, facet, recipe))
    indices = _indices(draw, recipe, recipe.shape)
    return Case(operator, (indices,), lambda: Expected(looked_up(indices, operator)))


def _make_float_embedding(facet: Facet, recipe: TableRecipe) -> Case:
    draw = Draw(recipe)
    weight = draw.floats((recipe.rows, recipe.dim))
    indices = _indices(draw, recipe, recipe.shape)

    def oracle() -> Expected:
        rows = [weight[index] for index in indices.flatten().tolist()]
        shape = (*indices.shape, recipe.dim)
        return Expected(torch.stack(rows).reshape(shape) if rows else torch.zeros(shape))

    return Case(FloatEmbedding(weight), (indices,), oracle)


def _make_bag(facet: Facet, recipe: BagRecipe) -> Case:
    draw = Draw(recipe)
    lengths = recipe.lengths
    shape = recipe.shape if lengths is None else (sum(lengths),)
    operator = EmbeddingBag(
        *_table(draw, facet, recipe), mode=recipe.mode, include_last_offset=recipe.include_last and lengths is not None
    )
    indices = _indices(draw, recipe, shape)
    weights = laid_out(draw.floats(shape), recipe.layout) if recipe.weighted and recipe.mode == "sum" else None
    offsets = None
    counts = [shape[1]] * shape[0] if lengths is None else list(lengths)
    ends = [sum(counts[:number]) for number in range(len(counts) + 1)]
    if lengths is not None:
        offsets = torch.tensor(ends if recipe.include_last else ends[:-1], dtype=recipe.index)

    def oracle() -> Expected:
        flat, scaled = indices.flatten().tolist(), None if weights is None else weights.flatten().tolist()
        bags = [flat[a:b] for a, b in pairwise(ends)]
        per_bag = None if scaled is None else [scaled[a:b] for a, b in pairwise(ends)]
        return Expected(bagged(bags, per_bag, operator))

    return Case(operator, (indices, offsets, weights), oracle)


def _tables(plain: TableRecipe) -> dict[str, Any]:
    found = {"plain": plain, "row_1_dim_1": replace(plain, rows=1, dim=1)}
    found |= {f"dim_{dim}": replace(plain, dim=dim) for dim in (8, 16, 64, 131)}
    found["int32"] = replace(plain, index=torch.int32)
    found |= {f"data_{end}": replace(plain, data=end) for end in ("lowest", "highest")}
    found |= {f"pruned_{str(dtype)[6:]}": replace(plain, pruned=dtype) for dtype in (torch.int32, torch.int64)}
    return found


def _written_embedding(facet: Facet) -> dict[str, TableRecipe]:
    plain = TableRecipe(shape=(29,))
    found: dict[str, TableRecipe] = _tables(plain)
    shapes: dict[str, tuple[int, ...]] = {"scalar": (), "two": (3, 5), "three": (2, 3, 4), "empty": (0, 4)}
    found |= {f"indices_{name}": replace(plain, shape=shape) for name, shape in shapes.items()}
    found |= {f"layout_{name}": replace(plain, shape=(4, 5), layout=name) for name in LAYOUTS[1:4]}
    return found


def _written_float_embedding(facet: Facet) -> dict[str, TableRecipe]:
    found = _written_embedding(facet).items()
    return {name: recipe for name, recipe in found if not name.startswith(("data", "pruned"))}


def _written_bag(facet: Facet) -> dict[str, BagRecipe]:
    plain = BagRecipe(shape=(), lengths=(3, 1, 7, 2))
    two = BagRecipe(shape=(4, 6))
    found: dict[str, BagRecipe] = _tables(plain)
    found["weighted"] = replace(plain, weighted=True)
    found["mean"] = replace(plain, mode="mean")
    found["mean_pruned"] = replace(plain, mode="mean", pruned=torch.int64, lengths=(9, 1, 1, 1, 5))
    found["weighted_pruned"] = replace(plain, weighted=True, pruned=torch.int32)
    found["include_last"] = replace(plain, include_last=True)
    found |= {"two": two, "two_weighted": replace(two, weighted=True), "two_mean": replace(two, mode="mean")}
    lengths = {"empty_bags": (0, 3, 0, 0, 2, 0), "all_empty": (0, 0), "one_bag": (40,)}
    found |= {name: replace(plain, lengths=values) for name, values in lengths.items()}
    found["empty_bags_mean"] = replace(found["empty_bags"], mode="mean", include_last=True)
    found["two_empty_bags"] = BagRecipe(shape=(3, 0))
    found["no_bags"] = BagRecipe(shape=(0, 3))
    found["no_bags_include_last"] = replace(plain, lengths=(), include_last=True)
    found |= {f"layout_{name}": replace(two, weighted=True, layout=name) for name in LAYOUTS[1:4]}
    return found


def _drawn_embedding(facet: Facet) -> st.SearchStrategy[TableRecipe]:
    return st.builds(
        TableRecipe,
        shape=st.lists(st.integers(0, 5), max_size=3).map(tuple),
        rows=st.integers(1, 30),
        dim=st.integers(1, 70),
        index=st.sampled_from((torch.int64, torch.int32)),
        pruned=st.sampled_from((None, torch.int64, torch.int32)),
        layout=st.sampled_from(LAYOUTS[:4]),
        seed=st.integers(0, 2**32 - 1),
    )


def _drawn_float_embedding(facet: Facet) -> st.SearchStrategy[TableRecipe]:
    return _drawn_embedding(facet).map(lambda recipe: replace(recipe, pruned=None))


def _drawn_bag(facet: Facet) -> st.SearchStrategy[BagRecipe]:
    return st.builds(
        BagRecipe,
        shape=st.tuples(st.integers(0, 5), st.integers(0, 5)),
        lengths=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple),
        weighted=st.booleans(),
        mode=st.sampled_from(("sum", "mean")),
        include_last=st.booleans(),
        rows=st.integers(1, 30),
        dim=st.integers(1, 70),
        index=st.sampled_from((torch.int64, torch.int32)),
        pruned=st.sampled_from((None, torch.int64, torch.int32)),
        layout=st.sampled_from(LAYOUTS[:4]),
        seed=st.integers(0, 2**32 - 1),
    )


def _bad_float_embedding(case: Case) -> Iterator[Bad]:
    operator, (indices, *rest) = case.operator, case.args
    assert isinstance(operator, Embedding | EmbeddingBag | FloatEmbedding)
    for what, value in {"above": len(operator.weight), "negative": -1, "huge": 2**62}.items():
        wrong = indices.clone()
        wrong[-1] = value
        yield f"index_{what}", operator, (wrong, *rest)
    yield "indices_float32", operator, (indices.float(), *rest)
    yield "weight_int8", replace(operator, weight=operator.weight.to(torch.int8)), case.args
    yield "weight_meta", replace(operator, weight=operator.weight.to("meta")), case.args
    yield "weight_rank_1", replace(operator, weight=operator.weight.flatten()), case.args


def _bad(case: Case) -> Iterator[Bad]:
    operator, (indices, *rest) = case.operator, case.args
    assert isinstance(operator, Embedding | EmbeddingBag)
    yield from _bad_float_embedding(case)
    rows = operator.weight.shape[0]
    mapped = replace(operator, mapping=torch.arange(rows).to(torch.int32))
    wrong = indices.clone()
    wrong[0] = rows
    yield "index_above_mapping", mapped, (wrong.clone(), *rest)
    yield (
        "mapping_above",
        replace(operator, mapping=torch.arange(rows) + 1),
        (torch.full_like(indices, rows - 1), *rest),
    )
    yield "mapping_float", replace(operator, mapping=torch.arange(rows).float()), case.args
    yield "mapping_rank_2", replace(operator, mapping=torch.arange(rows)[None]), case.args
    ones = torch.ones(rows + 1)
    yield "scales_more", replace(operator, qweight=QParams(operator.qweight.dtype, ones.double(), ones, 0)), case.args
    nans = torch.full((rows,), float("nan"))
    yield "scales_nan", replace(operator, qweight=QParams(operator.qweight.dtype, nans.double(), nans, 0)), case.args
    if isinstance(operator, EmbeddingBag):
        count = len(indices)
        for what, values in {
            "not_from_0": [1, 3],
            "fall": [0, 5, 3],
            "above": [0, count + 1],
            "negative": [0, -1],
            "huge": [0, 2**62],
            "none": [],
        }.items():
            yield f"offsets_{what}", operator, (indices, torch.tensor(values, dtype=torch.int64), None)
        last = replace(operator, include_last_offset=True)
        yield "offsets_last_less", last, (indices, torch.tensor([0, count - 1]), None)
        yield "offsets_rank_2", operator, (indices, torch.tensor([[0]]), None)
        yield "offsets_float", operator, (indices, torch.zeros(1), None)
        yield "indices_1d_without_offsets", operator, (indices, None, None)
        yield "indices_2d_with_offsets", operator, (indices[None], rest[0], None)
        yield "weights_less", operator, (indices, rest[0], torch.ones(count - 1))
        yield "weights_float64", operator, (indices, rest[0], torch.ones(count).double())
        yield "weights_of_mean", replace(operator, mode="mean"), (indices, rest[0], torch.ones(count))
        yield "mode_max", replace(operator, mode="max"), case.args


FLOAT_EMBEDDING = Family(
    FloatEmbedding,
    _written_float_embedding,
    _drawn_float_embedding,
    _make_float_embedding,
    lambda facet: TableRecipe(shape=(3001,), rows=500, dim=64),
    bad=_bad_float_embedding,
)
EMBEDDING = Family(
    Embedding,
    _written_embedding,
    _drawn_embedding,
    _make_embedding,
    lambda facet: TableRecipe(shape=(3001,), rows=500, dim=64),
    requantizes=False,
    bad=_bad,
)
EMBEDDING_BAG = Family(
    EmbeddingBag,
    _written_bag,
    _drawn_bag,
    _make_bag,
    lambda facet: BagRecipe(shape=(), lengths=(3, 40, 0, 7) * 50, rows=500, dim=64, weighted=True),
    requantizes=False,
    bad=_bad,
)
