"""The house's picture: who may import whom, and what must load without torch and without the providers' SDKs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIGHT = {
    "sae.common.errors", "sae.common.files", "sae.common.progress", "sae.common.settings", "sae.common.resources",
    "sae.common.click_group", "sae.common.registry", "sae.common.seeds", "sae.common.tables", "sae.data.corpus",
    "sae.data.split", "sae.baselines.registry", "sae.formats", "sae.formats.header", "sae.training.recipes",
    "sae.models.toy_recipe", "sae.common.field_types", "sae.common.memory", "sae.common.yaml_files",
    "sae.hub.address", "sae.hub.saelens", "sae.models.hook_names",
}  # fmt: skip
"""Parts of sae without torch; of autointerp, only the sampling room may import others."""
INPUTS = {
    "sae.data.corpus", "sae.data.split", "sae.formats", "sae.formats.header", "sae.hub.address",
    "sae.models.hook_names",
}  # fmt: skip
"""Of these, what only sampling and the plan read."""
SAMPLING, LLM = "autointerp/sampling/", "autointerp/llm/"
IN_PROCESS = (f"{LLM}providers/hf", f"{LLM}providers/vllm", f"{LLM}providers/embedding.py")
"""The models and the embedder that run in this process."""
TENSORS = {"torch", "transformers", "sentence_transformers", "vllm"}
SUBJECTS = {"transformer_lens", "sklearn"}
AGREEMENT = "autointerp/scorers/agreement.py"
"""Where scores are measured by scikit-learn, imported when the first is computed."""
CALLS = {"anthropic", "openai", "httpx2", "aiohttp", "diskcache", "tenacity", "dotenv"}
OUTSIDE = {"os", "pathlib", "socket", "subprocess", "requests", "httpx", "httpx2", "aiohttp", "openai", "anthropic"}
"""What reaches disk, network or environment."""
FLOORS = (
    {"common"}, {"data", "hub"}, {"models"}, {"largest", "nnls", "products", "pursuit"},
    {"activation_functions", "context"}, {"dictionary"}, {"baselines"}, {"formats"}, {"measuring"}, {"tasks"},
    {"interventions"}, {"training"}, {"api"}, {"cli", "__init__"}, {"__main__"},
)  # fmt: skip
"""The rooms of sae: each imports those before it only."""
PURE = (
    "explainers/", "simulators/", "judges/", "scorers/", "prompting/render.py", "prompting/parse.py", "llm/types.py",
    "llm/ask.py", "evaluate.py",
)  # fmt: skip


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports_of(path: Path) -> frozenset[str]:
    return frozenset(imported(ast.walk(tree_of(path))))


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: no function's body, nothing for type checkers."""
    for child in ast.iter_child_nodes(node):
        typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not typing and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from at_once(child)


def tops(names: Iterable[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def relative_to_root(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def loaded_by(code: str, names: Iterable[str]) -> str:
    """Which of these modules a new process has loaded after some code, as a list."""
    code += f"\nimport sys\nprint([name for name in {sorted(names)} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_sae_never_names_autointerp() -> None:
    assert not [path for path in files("sae") if "autointerp" in path.read_text("utf-8").lower()]


def test_no_arrow_between_the_rooms_of_sae_runs_back_up() -> None:
    """Also none for type checkers, and none inside a function."""
    rooms = {room for floor in FLOORS for room in floor}
    assert rooms == {room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in files("sae")}
    for path in files("sae"):
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for room in {room_of(name) for name in parts_of_sae(path)} - {own}:
            assert floor_of(room) < floor_of(own), f"{path} of room {own} imports room {room}"


def room_of(module: str) -> str:
    """`sae.data.corpus` is of the room `data`; the package itself is of the room `__init__`."""
    return [*module.split("."), "__init__"][1]


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def parts_of_sae(path: Path) -> Iterator[str]:
    """Modules of sae that a file imports anywhere; in `from sae import x`, the module is sae.x."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "sae":
            yield from (f"sae.{alias.name}" for alias in node.names)
    yield from (name for name in imports_of(path) if name.startswith("sae."))


def test_only_sampling_and_what_runs_in_this_process_know_torch() -> None:
    for path in files("autointerp"):
        if not relative_to_root(path).startswith(SAMPLING):
            forbidden = SUBJECTS if relative_to_root(path).startswith(IN_PROCESS) else SUBJECTS | TENSORS
            forbidden = forbidden - {"sklearn"} if relative_to_root(path) == AGREEMENT else forbidden
            used = tops(imports_of(path)) & forbidden
            assert not used, f"{path} imports {used}"


def test_the_judge_in_this_process_imports_torch_late() -> None:
    paths = [path for path in files("autointerp") if relative_to_root(path).startswith(IN_PROCESS)]
    assert any("torch" in imports_of(path) for path in paths)
    for path in paths:
        used = tops(imported(at_once(tree_of(path)))) & TENSORS
        assert not used, f"{path} imports {used} at once"


def test_scorers_import_scikit_learn_late() -> None:
    tree = tree_of(ROOT / AGREEMENT)
    assert "sklearn" in tops(imported(ast.walk(tree)))
    assert "sklearn" not in tops(imported(at_once(tree)))


def test_only_the_sampling_room_knows_the_rest_of_sae() -> None:
    """And the plan, which reads headers and the corpus, without torch."""
    for path in files("autointerp"):
        if not relative_to_root(path).startswith(SAMPLING):
            used = {name for name in imports_of(path) if name.split(".")[0] == "sae"}
            used -= LIGHT - (set() if relative_to_root(path) == "autointerp/runs/plan.py" else INPUTS)
            assert not used, f"{path} imports {used}"


def test_only_the_llm_rooms_call_out() -> None:
    for path in files("autointerp") + files("sae"):
        if not relative_to_root(path).startswith(LLM):
            used = tops(imports_of(path)) & CALLS
            assert not used, f"{path} imports {used}"


def test_only_the_llm_rooms_read_keys() -> None:
    """Elsewhere two files look at the environment: where the cache lies, what torchrun says."""
    allowed = {"sae/common/settings.py", "sae/training/ranks.py"}
    for path in files("autointerp") + files("sae"):
        if not relative_to_root(path).startswith(LLM):
            text = path.read_text("utf-8")
            forbidden = r"API_?KEY" if relative_to_root(path) in allowed else r"\b(environb?|getenvb?)\b"
            assert not re.search(forbidden, text), f"{path} reads the environment"


def test_explainers_simulators_scorers_touch_no_disk_network_environment() -> None:
    for room in PURE:
        paths = files(f"autointerp/{room}") or [ROOT / "autointerp" / room]
        for path in paths:
            used = tops(imports_of(path)) & OUTSIDE
            assert not used, f"{path} imports {used}"


def test_the_light_parts_of_sae_load_no_torch() -> None:
    assert loaded_by(f"import {', '.join(sorted(LIGHT))}", TENSORS | SUBJECTS | CALLS) == "[]"


def test_import_and_help_load_nothing_heavy() -> None:
    code = (
        "import click, click.testing, autointerp, autointerp.cli as cli\n"
        "run = click.testing.CliRunner().invoke\n"
        "for words in ([], *([name] for name in cli.main.commands), ['cache', 'clear']):\n"
        "    assert run(cli.main, [*words, '--help']).exit_code == 0\n"
    )
    heavy = {"numpy", "pandas", "matplotlib", "pydantic"}
    assert loaded_by(code, heavy | TENSORS | SUBJECTS | CALLS) == "[]"


def test_exports_know_records_and_the_store_only() -> None:
    """And which texts detection shows. Nothing heavy is loaded to list the formats."""
    allowed = {"exports", "records", "store", "population", "scorers.fragments"}
    for path in files("autointerp/exports"):
        rooms = {name.removeprefix("autointerp.") for name in imports_of(path) if name.startswith("autointerp.")}
        assert not {room for room in rooms if not {room, room.split(".")[0]} & allowed}, path
    listed = "from autointerp.exports import EXPORTS; EXPORTS.all()"
    assert loaded_by(listed, {"numpy", "pandas", "pydantic", "pyarrow"} | TENSORS | SUBJECTS | CALLS) == "[]"


def test_scoring_a_sampled_run_needs_neither_torch_nor_a_provider(smoke: Path) -> None:
    code = (
        "import autointerp\n"
        "from autointerp import config\n"
        "from autointerp.runs import offline, work as works\n"
        "from autointerp.evaluate import Method\n"
        "from sae.common.progress import Silent\n"
        f"features = autointerp.open_run({str(smoke)!r}).features[:3]\n"
        "experiment = config.load('smoke')\n"
        "work = works.Work(features, experiment, Method.of(experiment), [])\n"
        "work.explain(offline.Offline(), Silent(''))\n"
        "work.evaluate(offline.Offline(), Silent(''), lambda results: None)\n"
        "assert len(work.results()) == 3 * len(experiment.explainers)"
    )
    assert loaded_by(code, TENSORS | SUBJECTS | CALLS) == "[]"


def test_no_pickle_anywhere() -> None:
    for path in files("sae") + files("autointerp"):
        assert not imports_of(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path


def test_every_random_generator_comes_from_a_stream_of_its_own() -> None:
    """One room makes generators, and no stream's name stands in two calls."""
    streams: list[str] = []
    for path in files("sae") + files("autointerp"):
        text = path.read_text("utf-8")
        if relative_to_root(path) != "sae/common/seeds.py":
            assert not re.search(r"default_rng|manual_seed\((?!\s*derive_seed)|SeedSequence|random\.seed", text), path
        calls = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
        for call in calls:
            name = getattr(call.func, "id", "")
            if name in ("derive_seed", "numpy_generator", "torch_generator") and len(call.args) > 1:
                streams += [call.args[1].value] if isinstance(call.args[1], ast.Constant) else []
    assert len(streams) > 10
    assert sorted(streams) == sorted(set(streams))
