"""Headers of the native SDK and of the backends here: each compiles by itself, includes no layer above its own, and
pybind11 stays in python/."""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INCLUDE = ROOT / "qcore/include"
SDK = INCLUDE / "qcore"
X86 = ROOT / "backends/fbgemm_x86"
ARM = ROOT / "backends/qnnpack_arm"

# Lower layers first: a header includes its own layer and those before it. What is compiled once per instruction set
# includes none of the code around it.
LAYERS = ["base", "isa", "ops", "plan", "python"]
ALLOWED = {layer: set(LAYERS[: index + 1]) for index, layer in enumerate(LAYERS)}
ALLOWED |= {"isa": {"isa"}, "micro": {"isa", "micro"}}

# Where headers were before there were folders, for backends that include them from there.
FORWARDED = ["inline.h", "isa_scalar.h", "kernels.h", "kernels.inl.h", "module.h", "parallel.h", "tensor_view.h"]

WITH_PYBIND11 = ["module.h", "tensor_view.h"]

# A header of the standard library -> what there is in it.
STANDARD = {
    "algorithm": r"std::(min|max|clamp|sort|stable_sort|all_of|any_of|none_of|find|find_if|copy|copy_n"
    r"|equal|count|min_element|max_element|upper_bound)\b",
    "array": r"std::array\b",
    "atomic": r"std::atomic\b",
    "chrono": r"std::chrono\b",
    "cmath": r"std::(abs|nearbyint|fma|isfinite|isinf|isnan|sqrt|floor|fabs|ldexp)\b",
    "cstdint": r"\bu?int(8|16|32|64|ptr)_t\b",
    "cstring": r"std::mem(cpy|set|cmp)\b",
    "exception": r"std::(exception|exception_ptr|rethrow_exception|current_exception)\b",
    "functional": r"std::function\b",
    "limits": r"std::numeric_limits\b",
    "map": r"std::map\b",
    "memory": r"std::(unique_ptr|shared_ptr|make_unique|make_shared)\b",
    "mutex": r"std::(mutex|lock_guard|unique_lock)\b",
    "numeric": r"std::(accumulate|partial_sum)\b",
    "optional": r"std::(optional|nullopt)\b",
    "string": r"std::(string|to_string)\b",
    "thread": r"std::thread\b",
    "tuple": r"std::tuple\b",
    "type_traits": r"std::(is_\w+|conditional_t|remove_\w+)\b",
    "utility": r"std::(pair|move|swap|declval)\b",
    "vector": r"std::vector\b",
}

HEADERS = sorted(SDK.rglob("*.h"))
FLAGS = ["-std=c++17", "-fsyntax-only", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-Wno-unused-function", f"-I{INCLUDE}"]  # of a vocabulary, a header by itself uses some


def compiler():
    found = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))), None)
    if found is None:
        pytest.skip("there is no C++ compiler on this machine")
    return found


def layer_of(header):
    relative = header.relative_to(SDK)
    return relative.parts[0] if len(relative.parts) > 1 else None


def included(header):
    """Of qcore, relative to the folder of the SDK's headers."""
    return re.findall(r'^#include "qcore/(.+?)"', header.read_text(), re.MULTILINE)


def precompiled(folder, *headers):
    """Flags that include these headers of the system, which are compiled once for all."""
    first = folder / "first.h"
    first.write_text("".join(f"#include <{header}>\n" for header in headers))
    options = [flag for flag in FLAGS if flag != "-fsyntax-only"]
    command = [compiler(), *options, "-x", "c++-header", str(first), "-o", f"{first}.gch"]
    subprocess.run(command, check=True, timeout=300)
    return ["-include", str(first)]


def compile_alone(header, *flags):
    """What the compiler says of a file that is nothing but this header; empty where that is nothing."""
    command = [compiler(), *FLAGS, *flags, "-include", str(header), "-x", "c++", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return f"{header}: {done.stderr[:1500]}" if done.returncode else ""


def compile_all(jobs):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        told = list(filter(None, pool.map(lambda job: compile_alone(*job), jobs)))
    assert not told, "\n".join(told)


def isa_flags(backend):
    """Name of an instruction set -> its compiler flags, as isas.cmake has them without options."""
    text = re.sub(r"^if\(.*?^else\(\)", "", (backend / "isas.cmake").read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^ *set\(QCORE_FLAGS_(\w+)(.*)\)", text, re.MULTILINE)
    found = {}
    for name, flags in lines:
        text = re.sub(r"\$\{QCORE_FLAGS_(\w+)\}", lambda match: shlex.join(found[match[1]]), flags)
        found[name] = shlex.split(text)
    return found


def test_there_are_no_other_layers():
    assert {layer_of(header) for header in HEADERS} == {*ALLOWED, None}
    assert sorted(header.name for header in HEADERS if layer_of(header) is None) == FORWARDED


@pytest.mark.parametrize("layer", ALLOWED)
def test_no_header_includes_a_layer_above_its_own(layer):
    for header in HEADERS:
        if layer_of(header) == layer:
            above = [name for name in included(header) if name.split("/")[0] not in ALLOWED[layer]]
            assert not above, f"{header} includes {above}"


def test_pybind11_is_in_python_alone():
    for header in HEADERS:
        if layer_of(header) not in ("python", None):
            assert "pybind11" not in header.read_text(), header
        elif layer_of(header) == "python":
            assert "#include <pybind11/pybind11.h>" in header.read_text(), header


def arguments_of_functions(text):
    """Name and number of arguments of each function that is defined in a header; templates' commas do not count."""
    for match in re.finditer(
        r"\b(\w+)\(((?:[^()]|\([^()]*\))*)\)\s*(?:const\s*)?(?::[^{;]*)?\{", re.sub("//.*", "", text)
    ):
        if re.search(r"\b(const|int\w*|float|bool|auto)\b", match[2]):
            yield match[1], 1 + re.sub(r"<[^<>]*>|\{[^{}]*\}|\[[^\[\]]*\]", "", match[2]).count(",")


def test_parameters_are_structs_where_they_are_many():
    """Four vectors to store, where and how are seven; a kernel takes five at most. Bindings have Python's arguments."""
    many = [
        f"{header}: {name} takes {count}"
        for header in HEADERS
        if layer_of(header) != "python"
        for name, count in arguments_of_functions(header.read_text())
        if count > 7
    ]
    assert not many, "\n".join(many)
    kernels = re.findall(r"\(\*(\w+)\)\((.*?)\);", (SDK / "isa/kernels.h").read_text(), re.DOTALL)
    assert len(kernels) > 30
    assert not [name for name, given in kernels if given.count(",") > 4]


@pytest.mark.parametrize("standard", STANDARD)
def test_each_header_includes_what_it_uses_of_the_standard_library(standard):
    wrong = []
    for header in HEADERS:
        text = header.read_text()
        uses = re.search(STANDARD[standard], re.sub("//.*", "", text)) is not None
        if layer_of(header) and uses != (f"#include <{standard}>" in text):
            wrong.append(f"{header} {'lacks' if uses else 'does not need'} it")
    assert not wrong, "\n".join(wrong)


def test_each_header_compiles_by_itself(tmp_path):
    # The standard library is compiled once for all, which include it themselves, as another test says.
    first = precompiled(tmp_path, *STANDARD)
    vocabulary = ("-include", str(SDK / "isa/scalar.h"))
    headers = [header for header in HEADERS if layer_of(header) != "python" and header.name not in WITH_PYBIND11]
    compile_all([(header, *first, *(vocabulary if header.name.endswith(".inl.h") else ())) for header in headers])


def test_headers_with_pybind11_compile_in_reverse(tmp_path):
    # One by one they would take minutes. What one lacks that another has shows where it comes before that one: in a
    # module of a backend, which has them in order, or here.
    pybind11 = pytest.importorskip("pybind11", reason="the bindings include it")
    headers = [header for header in HEADERS if layer_of(header) == "python" or header.name in WITH_PYBIND11]
    (tmp_path / "all.h").write_text("#pragma once\n" + "".join(f'#include "{header}"\n' for header in headers[::-1]))
    assert not compile_alone(
        tmp_path / "all.h", *(f"-isystem{folder}" for folder in (sysconfig.get_path("include"), pybind11.get_include()))
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="they are for x86-64")
def test_each_header_of_the_x86_backend_compiles_by_itself():
    flags = isa_flags(X86)
    most = [*flags["avx512_amx"], "-mf16c"]
    jobs = [(X86 / "src/cpu.h",), (X86 / "src/tiles_amx.h", *most)]
    jobs += [(header, *flags[header.stem.removeprefix("isa_")]) for header in sorted((X86 / "src").glob("isa_*.h"))]
    jobs += [(header, *most, "-DQCORE_ISA=alone") for header in sorted((X86 / "src").glob("*.inl.h"))]
    assert len(jobs) == len(list((X86 / "src").glob("*.h"))) - 1  # but for what needs SIMDe
    compile_all(jobs)


@pytest.mark.skipif(os.uname().machine != "aarch64", reason="they are for 64-bit ARM")
def test_each_header_of_the_arm_backend_compiles_by_itself():
    flags = isa_flags(ARM)
    jobs = [(ARM / "src/cpu.h",), (ARM / "src/lanes_neon.inl.h", "-DQCORE_ISA=alone")]
    jobs += [(header, *flags[header.stem.removeprefix("isa_")]) for header in sorted((ARM / "src").glob("isa_*.h"))]
    assert len(jobs) == len(list((ARM / "src").glob("*.h")))
    compile_all(jobs)


def test_a_header_that_lacks_an_include_is_told(tmp_path):
    header, body = tmp_path / "rank.h", "inline int rank(const qcore::Extent& x) { return x.rank; }\n"
    header.write_text("#pragma once\n" + body)
    assert "qcore" in compile_alone(header)
    header.write_text('#pragma once\n#include "qcore/base/extent.h"\n' + body)
    assert compile_alone(header) == ""
