"""The import rows of docs/design.md, read from that page, and what importing and a worker may cost."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "layover"
SOURCES = sorted(PACKAGE.rglob("*.py"))
WORKER_PACKAGES = {
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "fsspec",
    "numpy",
    "scipy",
    "pyarrow",
    "sklearn",
    "huggingface_hub",
}  # which transformers brings
NOT_ON_WORKERS = {
    "placement",
    "bundle",
    "catalog",
    "checks",
    "switches",
    "smoke",
    "lacking",
    "schema",
    "study",
    "plan",
    "compiler",
    "measures",
    "observations",
    "query",
    "upkeep",
}  # rows 2 and 3, for whoever declares and concludes
# in functions that read the Hub, or that a recipe or a placement has to ask for
LAZY_EXTRA = {
    ("tasks/hub.py", "datasets"),
    ("tasks/tasksource.py", "tasksource"),
    ("train/lora.py", "peft"),
    ("executors/slurm.py", "submitit"),
    ("executors/errands.py", "submitit"),
    ("executors/ray.py", "ray"),
    ("executors/ray_cluster.py", "ray"),
}
LOOKS_AT_TORCH = {"doctor.py"}  # it reports whether torch imports and which device it finds
PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
PICKLING_CALLS = {"torch.load", "torch.save", "pd.read_pickle"}


@dataclass(frozen=True)
class Import:
    """One import statement: the module it names, and whether it only serves the type checker."""

    module: str
    line: int
    typing_only: bool


def shown(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@lru_cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    typing_only = {
        child
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.module == "layover":  # from layover import console
                names = [f"layover.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(name, node.lineno, node in typing_only) for name in names)


def rows() -> dict[str, int]:
    """Module or folder -> row, from the fenced block of docs/design.md in which every cell begins with a digit."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"^```\n(.*?)^```", text, re.S | re.M) if b.startswith("9 "))
    cells = re.findall(r"(\d)((?: [a-z_]+)+)", block)
    return {name: int(row) for row, names in cells for name in names.split()}


ROWS = rows()


def part(module: str) -> str:
    """The module or folder of the table that a dotted name or a relative path belongs to."""
    return re.sub(r"\.py$", "", module.removeprefix("layover.").replace("/", ".")).split(".")[0]


def test_every_module_has_a_row() -> None:
    found = {part(shown(path)) for path in SOURCES} - {"__init__"}
    assert found <= set(ROWS), f"not in the table of docs/design.md: {sorted(found - set(ROWS))}"


def test_modules_import_from_their_row_or_below() -> None:
    above = [
        f"{shown(path)}:{item.line}, row {ROWS[part(shown(path))]}, imports {item.module} of {ROWS[part(item.module)]}"
        for path in SOURCES
        if path != PACKAGE / "__init__.py"
        for item in imports(path)
        if item.module.startswith("layover.") and not item.typing_only
        if ROWS[part(item.module)] > ROWS[part(shown(path))]
    ]
    assert not above, "\n".join(above)


def test_only_the_training_folder_imports_torch() -> None:
    found = {shown(path) for path in SOURCES for item in imports(path) if item.module.split(".")[0] == "torch"}
    assert {name for name in found if not name.startswith("train/")} <= LOOKS_AT_TORCH


def test_workers_import_nothing_but_the_packages_of_a_worker() -> None:
    on_workers = [p for p in SOURCES if ROWS.get(part(shown(p)), 9) <= 5 and part(shown(p)) not in NOT_ON_WORKERS]
    strange = {
        (shown(path), top)
        for path in on_workers
        for item in imports(path)
        if not item.typing_only
        if (top := item.module.split(".")[0]) not in {*sys.stdlib_module_names, *WORKER_PACKAGES, "layover"}
        or (top == "layover" and part(item.module) in NOT_ON_WORKERS)
    }
    assert strange <= LAZY_EXTRA


def test_no_pickle() -> None:
    found = [f"{shown(p)}:{i.line}" for p in SOURCES for i in imports(p) if i.module.split(".")[0] in PICKLES]
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                allowed = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
                name = ast.unparse(node.func)
                if allowed or name in PICKLING_CALLS or name.endswith(".to_pickle"):
                    found.append(f"{shown(path)}:{node.lineno}")
    assert not found


def opens_text_without_encoding(call: ast.Call) -> bool:
    named = {keyword.arg for keyword in call.keywords}
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text"):
        return "encoding" not in named
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        mode = call.args[1] if len(call.args) > 1 else None
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "open":
        receiver = ast.unparse(call.func.value)
        if receiver[0].isupper() or receiver in ("os", "archive"):
            return False  # Store.open, Session.open, os.open; a zip file's members are bytes
        mode = call.args[1 if receiver in ("gzip", "lzma", "bz2") else 0] if call.args else None
    else:
        return False
    written = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + ([mode] if mode else [])
    binary = any("b" in str(node.value) for node in written if isinstance(node, ast.Constant))
    return not binary and "encoding" not in named


def test_every_text_file_is_opened_with_an_encoding() -> None:
    found = [
        f"{shown(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and opens_text_without_encoding(node)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "is_found"),
    [("open(p)", True), ("open(p, 'rb')", False), ("p.open()", True), ("p.open('w', encoding='utf-8')", False),
     ("Store.open(p)", False), ("p.read_text()", True), ("gzip.open(p, 'rt')", True)],
)  # fmt: skip
def test_an_open_without_encoding_is_seen(code: str, is_found: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert opens_text_without_encoding(call) is is_found


def fresh(code: str, cwd: Path = ROOT, **environment: str) -> str:
    """What a new Python prints when it runs `code` with this layover."""
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT = """
import sys, time
before, started = set(sys.modules), time.process_time()
import layover
spent = time.process_time() - started
print(spent, *sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def test_importing_is_free() -> None:
    runs = [fresh(IMPORT).split() for _ in range(3)]
    loaded = {name for _, *names in runs for name in names}
    assert loaded.isdisjoint({"torch", "transformers", "ray", "pandas", "jinja2", "pydantic", "numpy"}), loaded
    # processor time of the best run: how busy the machine is does not count
    assert min(float(spent) for spent, *_ in runs) < 0.2


def test_the_command_starts_without_torch_and_pandas() -> None:
    code = "import sys, layover.cli; print(*{name.split('.')[0] for name in sys.modules})"
    assert set(fresh(code).split()).isdisjoint({"torch", "transformers", "pandas", "altair", "duckdb"})


WORKER = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ABSENT = {"pydantic", "typer", "rich", "click", "pandas", "duckdb", "altair", "vl_convert", "jinja2", "datasets"}

class Finder(PathFinder):  # as if these were not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder

import layover.train.work
from layover.run import run_step
from layover.step import Places, Recipe, TaskRef, Train
from layover.store import Store
from layover.tasks import TASKS
from layover.tasks.load import locate

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

words = sorted({w for row in TASKS.get("micro_target").generate()["train"] for w in row["sentence"].strip(".").split()})
vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words])}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
special = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained("encoder")
sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
BertModel(BertConfig(vocab_size=len(vocabulary), **sizes)).save_pretrained("encoder")

task = TASKS.get("micro_target")
ref = TaskRef("micro_target", task.version, locate(task, []).digest, task.primary, 16, 16)
step = Train("tiny", ref, Recipe(epochs=1, max_length=16), seed=1)
places = Places(encoders={"tiny": str(Path("encoder").resolve())}, device="cpu", threads=1)
outcome = run_step(step, Store.open("store"), places)
print(outcome.status, outcome.error, *ABSENT & set(sys.modules))
"""


def test_a_worker_needs_no_package_of_declaring_or_concluding(tmp_path: Path) -> None:
    assert fresh(WORKER, tmp_path, HF_HUB_OFFLINE="1").split() == ["finished"]
