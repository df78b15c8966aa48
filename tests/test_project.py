"""The rules of the project that no single module can see: metadata, layers, light imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rankseg
from rankseg._require import pip_line

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for name in ("rankseg", "rankseg_integrations") for path in (ROOT / name).rglob("*.py")
)

# Inner layers: what each may import of rankseg. "" is the package itself, its public names.
LAYERS = {
    "_require": set(),
    "cached": set(),
    "validation": {"validation"},
    "strict_json": set(),
    "calibrator": {"strict_json", "validation"},
    "objectives": {"cached"},
    "result": set(),
    "profile": set(),
    "generating_function": {"profile"},
    "refined_normal": {"profile"},
    "fields": {"cached", "fields", "objectives"},
    "solvers": {
        *("cached", "solvers", "fields", "objectives", "validation"),
        *("calibrator", "generating_function", "profile", "refined_normal"),
    },
    "scoring": {"fields", "objectives", "solvers", "valid_pixels", "validation"},
    "assignment": {"fields", "objectives", "solvers"},
    "head": {"calibrator", "validation"},
    "rule": {"calibrator", "fields", "head", "strict_json", "validation"},
    "decision": {
        *("cached", "validation", "assignment", "fields", "objectives"),
        *("result", "rule", "solvers"),
    },
    "valid_pixels": {"cached", "decision", "result", "solvers", "validation"},
    "unrolled": {  # a decision whose field is a graph, and the head that holds it
        *("assignment", "cached", "decision", "fields", "head", "objectives", "solvers"),
        "validation",
    },
    "operator": {"calibrator", "result", "solvers", "valid_pixels", "validation"},
    "api": {
        *("calibrator", "decision", "fields", "operator", "result", "rule", "solvers"),
        *("unrolled", "valid_pixels", "validation"),
    },
    "functional": {"api", "calibrator"},
    "": {"api", "calibrator", "fields", "result", "rule", "scoring"},
}
PUBLIC = {
    *("", "_require", "api", "calibrator", "functional", "result", "rule", "scoring"),
    *("strict_json", "validation"),
}
HOUSEHOLD = {"torch", "numpy", "typing_extensions"}  # torch needs the third itself
PRIVATE = {
    "_common": {"_require", "validation"},
    "_lightning": {"files"},
    "monai": {"validation"},
    "nnunet": {"nnunet"},
}
"""What adapters take of the inside: checks, and files that are whole or absent as the CLI's are.

Folders that nnU-Net fills are a file format: what reads them needs no nnU-Net, and lies in rankseg
beside the command that shares it.
"""
TWINS = {"lightning": {"_lightning"}, "pytorch_lightning": {"_lightning"}}
"""One framework under two names, each with its own base classes; the logic is written once."""
TERMINAL = {"cli": {"typer", "rich"}, "demo": {"rich"}, "bench": {"rich"}}
"""The command line, and what prints tables for it; nothing below knows of a terminal."""
COMPILERS = {
    "kernel_cache": {"numba"},
    "numba_kernels": {"numba", "llvmlite"},
    "triton_kernels": {"triton"},
}
"""Files that may import a compiler; nothing imports these files before they are needed."""
GUESTS = {
    *("ai_edge_litert", "batchgenerators", "dask", "distributed", "ignite", "imgviz"),
    *("jsonargparse", "lightning", "matplotlib", "monai", "nibabel", "nnunetv2", "numba"),
    *("onnx", "onnxruntime", "pandas", "PIL", "pytorch_lightning", "rasterio", "rich"),
    *("safetensors", "sam2", "scipy", "segment_anything", "SimpleITK", "skimage", "sklearn"),
    *("timm", "torchmetrics", "torchvision", "transformers", "typer", "zarr"),
}


def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())  # type: ignore[no-any-return]


def repository_files() -> list[Path]:
    """Every file that is, or is about to be, under version control."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def component(module: str) -> str:
    """Second part of a dotted name: ``rankseg.fields.base`` belongs to ``fields``."""
    return module.partition(".")[2].partition(".")[0]


def imports(body: list[ast.stmt], inside_functions: bool) -> Iterator[str]:
    """Dotted names that these statements import; ``if TYPE_CHECKING`` blocks do not count."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (_target(node.module or "", alias.name) for alias in node.names)
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            for field in ("body", "orelse", "finalbody", "handlers"):
                yield from imports(getattr(node, field, []), inside_functions)


def _target(module: str, name: str) -> str:
    """``from rankseg import validation`` means the module, ``import RankSEG`` the package."""
    below = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if below.is_dir() or below.with_suffix(".py").is_file() else module


def imported(path: Path, inside_functions: bool = True) -> set[str]:
    return set(imports(ast.parse(path.read_text()).body, inside_functions))


def third_parties(path: Path) -> set[str]:
    """Packages that importing the module imports, but for the standard library's and ours."""
    tops = {name.split(".")[0] for name in imported(path, inside_functions=False)}
    return tops - sys.stdlib_module_names - {"rankseg", "rankseg_integrations"}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_layers(path: Path) -> None:
    module = module_name(path)
    own = component(module)
    seen = imported(path)
    core = {component(name) for name in seen if name.split(".")[0] == "rankseg"}
    if module.startswith("rankseg_integrations"):
        assert core <= {"", "functional"} | PRIVATE.get(own, set())
        adapters = {component(name) for name in seen if name.startswith("rankseg_integrations")}
        assert adapters <= {"_common", own} | TWINS.get(own, set())  # an adapter may be a package
        assert third_parties(path) <= HOUSEHOLD | {own}
    elif own in LAYERS:
        assert core <= LAYERS[own]
        assert third_parties(path) <= HOUSEHOLD | COMPILERS.get(path.stem, set())
        assert not any(name.startswith("rankseg_integrations") for name in seen)
    else:
        assert not core & (set(LAYERS) - PUBLIC), "evaluation and cli stand on the api"
        assert third_parties(path) <= HOUSEHOLD | TERMINAL.get(own, set())
        assert not any(name.startswith("rankseg_integrations") for name in seen)


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if "solvers" in path.parts or path.stem == "assignment"],
    ids=module_name,
)
def test_solvers_ask_fields_through_the_protocol(path: Path) -> None:
    fields = {name for name in imported(path) if name.startswith("rankseg.fields")}
    assert fields <= {"rankseg.fields.base", "rankseg.fields.exact_sum"}  # and its integers


def test_commands_stand_on_top() -> None:
    above = {"cli": {"__main__"}, "demo": {"cli"}, "bench": {"cli"}}
    for path in SOURCES:
        own = component(module_name(path))
        for name in map(component, imported(path)):
            assert own in {name, *above.get(name, {own})}, f"{module_name(path)} imports {name}"


def test_help_loads_no_more_than_the_options() -> None:
    script = "import sys, rankseg.cli; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if name.startswith("rankseg.")}
    assert "rankseg.cli.options" in loaded
    late = (
        "rankseg.cli.run",
        "rankseg.evaluation",
        "rankseg.bench",
        "rankseg.demo",
        "rankseg.files",
    )
    assert not [name for name in loaded if name.startswith(late)]


def test_the_benchmark_worker_runs_without_this_package() -> None:
    # In the peer's environment, `rankseg` is the peer: only its public class may be asked for.
    worker = ROOT / "rankseg" / "bench" / "worker.py"
    assert third_parties(worker) == {"torch"}
    assert not any(name.startswith("rankseg") for name in imported(worker, inside_functions=False))
    assert {name for name in imported(worker) if name.startswith("rankseg")} == {"rankseg"}


@pytest.mark.parametrize(
    "module",
    [
        *("rankseg", "rankseg.functional", "rankseg_integrations.dask"),
        "rankseg_integrations.distributed",
        *("rankseg_integrations.monai", "rankseg_integrations.nnunet"),
        *("rankseg_integrations.sam", "rankseg.evaluation", "rankseg.nnunet"),
        *("rankseg_integrations.torch", "rankseg_integrations.transformers"),
    ],
)
def test_import_loads_no_framework_but_torch(module: str) -> None:
    script = f"import sys, {module}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"torch", module} <= loaded
    assert not loaded & GUESTS


def test_version_stands_in_one_place_and_is_cited() -> None:
    table = project()
    assert table["project"]["dynamic"] == ["version"]
    assert table["tool"]["hatch"]["version"]["path"] == "rankseg/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", rankseg.__version__)
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert cited[1] == rankseg.__version__


def test_licence_and_types_are_shipped() -> None:
    assert project()["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    for package in project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").is_file()


def requirements(extra: str) -> set[str]:
    """Distribution names of an extra, ``rankseg[...]`` in it resolved."""
    names: set[str] = set()
    for line in project()["project"]["optional-dependencies"][extra]:
        name, _, inner = re.fullmatch(r"([\w-]+)(\[([\w,-]+)\])?[^\[]*", line).groups()
        names |= {name} if name != "rankseg" else set().union(*map(requirements, inner.split(",")))
    return names


def test_all_holds_every_extra_for_users() -> None:
    extras = set(project()["project"]["optional-dependencies"]) - {"all", "test", "docs", "dev"}
    assert requirements("all") == set().union(*map(requirements, extras))


def test_what_is_missing_is_named_as_pip_takes_it() -> None:
    extras = project()["project"]["optional-dependencies"]
    for extra in set(extras) - {"all", "test", "docs", "dev"}:
        asked = re.fullmatch(r'pip install ("[^"]+"(?: "[^"]+")*)', pip_line(extra))
        assert asked, "install the package again: its metadata is older"
        assert sorted(re.findall(r'"([^"]+)"', asked[1])) == sorted(extras[extra])
    assert pip_line("nothing") == 'pip install ".[nothing]" in a clone'


def required() -> Iterator[tuple[str, str]]:
    """Each (module, extra) that the packages ask for with ``require``."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                yield tuple(ast.literal_eval(value) for value in values)


def test_every_required_module_is_in_its_extra() -> None:
    found = set(required())
    assert found, "no call of require was recognised"
    for module, extra in found:
        distribution = {"PIL": "pillow", "sklearn": "scikit-learn"}.get(
            module.split(".")[0], module.split(".")[0]
        )
        assert distribution.replace("_", "-") in requirements(extra), (module, extra)


def test_top_level_folders() -> None:
    tops = {path.relative_to(ROOT).parts[0] for path in repository_files() if path.parent != ROOT}
    visible = {name for name in tops if not name.startswith(".")}
    assert visible == {"rankseg", "rankseg_integrations", "tests", "examples", "docs"}


def test_no_machine_is_named() -> None:
    absolute = r"(?<![\w./-])/(?:work|farm|root|home/[a-z]+)/[\w.-]+"
    hosts = r"pypi\.or[g]|pythonhoste[d]|npmjs\.(?:or[g]|co[m])"
    for path in repository_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert not re.findall(f"{absolute}|{hosts}", text), path.relative_to(ROOT)
