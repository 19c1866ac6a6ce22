"""The house's picture: who may import whom, and what must load without torch."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIGHT = {"sae.errors", "sae.files", "sae.progress", "sae.corpus", "sae.formats"}
"""Parts of sae without torch; of autointerp, only the sampling room may import others."""
HEAVY = {"torch", "transformers", "transformer_lens", "sklearn"}


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_sae_never_imports_autointerp() -> None:
    assert not [path for path in files("sae") if any(name.split(".")[0] == "autointerp" for name in imports_of(path))]


def test_only_the_sampling_room_knows_torch_and_the_rest_of_sae() -> None:
    for path in files("autointerp"):
        if "sampling" in path.parts:
            continue
        for name in imports_of(path):
            assert name.split(".")[0] not in HEAVY, f"{path} imports {name}"
            if name.split(".")[0] == "sae":
                assert name in LIGHT - {"sae.corpus", "sae.formats"}, f"{path} imports {name}"


def test_explainers_simulators_scorers_touch_no_disk_network_environment() -> None:
    for room in ("explainers", "simulators", "scorers"):
        for path in files(f"autointerp/{room}"):
            used = imports_of(path) & {
                "os",
                "pathlib",
                "socket",
                "subprocess",
                "requests",
                "httpx",
                "openai",
                "anthropic",
            }
            assert not used, f"{path} imports {used}"


def test_import_and_help_load_no_torch() -> None:
    code = (
        "import sys, click.testing, autointerp, autointerp.cli as cli\n"
        "run = click.testing.CliRunner().invoke\n"
        "for words in ([], ['run'], ['show'], ['leaderboard']):\n"
        "    assert run(cli.main, [*words, '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'transformers', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_scoring_a_sampled_run_needs_no_torch(smoke: Path) -> None:
    code = (
        "import sys, autointerp\n"
        f"run = autointerp.open_run({str(smoke)!r})\n"
        "from autointerp import config, pipeline\n"
        "features = run.features\n"
        "results = list(pipeline.evaluate_all(features[:3], config.load('smoke'), lambda feature, name: False))\n"
        "assert len(results) == 3 and 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_pickle_anywhere() -> None:
    for path in files("sae") + files("autointerp"):
        assert not imports_of(path) & {"pickle", "cloudpickle", "dill", "joblib"}, path
