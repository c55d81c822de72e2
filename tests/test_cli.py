"""The command: the JSON contract, the files it writes, and one sentence for every bad input."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ridgeline import cli

SCALARS = {"time", "time_lower", "time_upper", "flops", "intensity", "energy", "tokens_per_second"}
KEYS = SCALARS | {"interval", "bytes", "ridge", "bound", "feasible", "operations", "sources"}
BOUNDS = re.compile(r"compute|vector|memory\..+|network\..+|host|overhead")


@dataclass(frozen=True)
class Ran:
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found = json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert isinstance(found, dict)
        return found

    def sentence(self, code: int) -> str:
        """The one line on stderr of a run that failed with a code, and nothing on stdout."""
        assert (self.code, self.out) == (code, "")
        assert self.err.startswith("ridgeline: ")
        assert self.err.count("\n") == 1
        assert "Traceback" not in self.err
        return self.err


@pytest.fixture
def ridgeline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["ridgeline", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return Ran(int(ended.value.code or 0), written.out, written.err)

    return run


# ---- the contract -----------------------------------------------------------------------------------------------------------


def test_analyze_one_scenario(ridgeline: Any):
    ran = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", "--batch", "16", "--context", "4096", "--level", "ideal", "--json")
    record = ran.record
    assert (ran.code, ran.err) == (0, "")
    assert record.keys() >= KEYS
    assert all(isinstance(record[name], float) for name in SCALARS)
    assert record["interval"] is None
    assert record["feasible"] is True
    assert record["level"] == "ideal"
    assert BOUNDS.fullmatch(record["bound"])
    assert record["bytes"].keys() == {"scratchpad", "l2", "hbm"}
    assert record["ridge"] == {"bf16": record["ridge"]["bf16"]}
    assert record["ridge"]["bf16"]["hbm"] == pytest.approx(295.3, abs=0.05)
    wanted = {"name", "kind", "count", "m", "n", "k", "flops", "bytes", "time", "bound"}
    assert all(row.keys() >= wanted and BOUNDS.fullmatch(row["bound"]) for row in record["operations"])
    assert sum(row["time"] * row["count"] for row in record["operations"]) == pytest.approx(record["time_lower"])
    assert all(row.keys() >= {"key", "field", "value", "unit", "where", "confidence"} for row in record["sources"])
    assert {row["field"] for row in record["sources"]} >= {"h100-sxm.memory.hbm.bandwidth", "llama-3.1-8b.hidden"}


def test_analyze_ranges(ridgeline: Any):
    """Two axes in the order asked; the third batch does not fit at the longer context: null, and the mask says so."""
    arguments = ("--batch", "1:1024:x32", "--context", "1024,4096", "--phase", "decode", "--json")
    ran = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", *arguments)
    record = ran.record
    assert ran.code == 0
    assert record["axes"] == {"batch": [1, 32, 1024], "context": [1024, 4096]}
    assert list(record["axes"]) == ["batch", "context"]
    assert record["feasible"] == [[True, True], [True, True], [False, False]]
    for name in (*SCALARS, "bound"):
        values = record[name]
        assert [len(row) for row in values] == [2, 2, 2], name
        assert [[one is not None for one in row] for row in values] == record["feasible"], name
    assert all(BOUNDS.fullmatch(one) for row in record["bound"][:2] for one in row)
    assert all(values[2] == [None, None] for values in record["bytes"].values())
    single = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", "--batch", "32", "--context", "4096", "--json").record
    assert record["time"][1][1] == pytest.approx(single["time"], rel=1e-12)
    assert record["bound"][1][1] == single["bound"]


def test_a_range_of_one_value_is_still_an_axis(ridgeline: Any):
    record = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", "--batch", "4:4", "--json").record
    assert record["axes"] == {"batch": [4]}
    assert len(record["time"]) == 1


def test_thresholds(ridgeline: Any):
    record = ridgeline("thresholds", "deepseek-v3", "h100-sxm", "--precision", "bf16", "--json").record
    wanted = {"ops_per_byte", "critical_batch", "attention_critical_tokens", "ops_per_comm_byte", "tensor_parallel_limit"}
    assert record.keys() >= wanted | {"kv_bytes_per_token", "tokens_in_memory", "sources"}
    assert record["critical_batch"] == pytest.approx(295.3, abs=0.05)
    assert record["ops_per_byte"]["fp8-e4m3"]["hbm"] == pytest.approx(2 * record["ops_per_byte"]["bf16"]["hbm"], rel=1e-3)
    assert record["kv_bytes_per_token"] == 70272
    assert record["tensor_parallel_limit"]["nvlink4, ring, one direction"] == pytest.approx(8.4, abs=0.05)
    assert record["tensor_parallel_limit"]["nvlink4, in-network reduction"] == pytest.approx(16.8, abs=0.05)


def test_show(ridgeline: Any):
    catalogue = ridgeline("show", "--json").record
    assert catalogue.keys() == {"chip", "model", "system"}
    assert "h100-sxm" in catalogue["chip"]
    listed = ridgeline("show", "chips", "--json").record["chip"]
    assert [row["name"] for row in listed] == catalogue["chip"]
    one = ridgeline("show", "chip", "H100", "--json").record
    assert one["quantities"]["memory.hbm.bandwidth"] == 3.35e12
    stated = next(row for row in one["sources"] if row["field"] == "memory.hbm.bandwidth")
    assert (stated["value"], stated["unit"]) == (3.35, "TB/s")
    for kind, name, text in (("model", "llama-3.1-8b", "hidden"), ("system", "dgx-h100", "450"), ("chip", "mi300x", "hbm")):
        assert text in ridgeline("show", kind, name).out


def test_counts_by_a_convention(ridgeline: Any):
    arguments = ("--prompt", "512", "--convention", "survey-encoder", "--json")
    record = ridgeline("analyze", "bert-base", "h100-sxm", *arguments).record
    assert record["counts"]["groups"]["projections"]["flops"] == pytest.approx(28.99e9, abs=5e6)  # table 3 of the survey


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("analyze", "llama-3.1-8b", "h100-sxm"), "memory.hbm"),
        (("analyze", "llama-3.1-8b", "h100-sxm", "--batch", "1:1024:x2", "--context", "4096"), "tokens/s"),
        (("analyze", "resnet-50", "a100-sxm-80gb"), "images/s"),
        (("analyze", "bert-base", "h100-sxm", "--convention", "survey-encoder"), "attention"),
        (("thresholds", "mixtral-8x7b", "h100-sxm"), "295"),
        (("show",), "h100-sxm"),
        (("show", "system"), "dgx-h100"),
    ],
)
def test_tables(ridgeline: Any, arguments: tuple[str, ...], said: str):
    ran = ridgeline(*arguments)
    assert ran.code == 0
    assert said in ran.out


def test_a_context_past_the_model_s_limit_warns(ridgeline: Any):
    arguments = ("analyze", "llama-3.1-8b", "h100-sxm", "--context", "200000")
    ran = ridgeline(*arguments, "--json")
    assert ran.code == 0
    assert ran.record["feasible"] is True
    assert "200000 tokens are past the 131072" in ran.err
    assert "past the 131072" in re.sub(r"\s+", " ", ridgeline(*arguments).out)
    assert ridgeline("analyze", "llama-3.1-8b", "h100-sxm", "--context", "131072", "--json").err == ""


# ---- the files it writes ----------------------------------------------------------------------------------------------------


def without_scripts(page: str) -> str:
    """The page's markup; a script may name addresses that it never loads."""
    return re.sub(r"<script\b(?![^>]*\bsrc=)[^>]*>.*?</script>", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("ranges", [(), ("--batch", "1:64:x4")])
def test_plots(ridgeline: Any, tmp_path: Path, ranges: tuple[str, ...]):
    starts = {".html": b"<!doctype html>", ".png": b"\x89PNG\r\n", ".svg": b"<?xml"}
    for suffix, start in starts.items():
        ran = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", *ranges, "--plot", f"roof{suffix}")
        content = (tmp_path / f"roof{suffix}").read_bytes()
        assert (ran.code, ran.err) == (0, f"wrote roof{suffix}\n")
        assert content.startswith(start)
        assert len(content) > 10_000
    picture = (tmp_path / "roof.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", without_scripts(picture))
    assert not re.search(r"<script[^>]*\bsrc=", picture)
    assert "FLOP per byte" in picture


@pytest.mark.parametrize("ranges", [(), ("--batch", "1:64:x4", "--context", "1024,2048")])
def test_a_report_is_one_self_contained_page(ridgeline: Any, tmp_path: Path, ranges: tuple[str, ...]):
    ran = ridgeline("analyze", "llama-3.1-8b", "h100-sxm", *ranges, "--report", "report.html", "--json")
    assert ran.code == 0
    assert ran.record["model"] == "llama-3.1-8b"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", without_scripts(page))
    assert not re.search(r"<script[^>]*\bsrc=|<link\b", without_scripts(page))
    assert "memory.hbm.bandwidth" in page
    assert "Bibliography" in page


# ---- bad input --------------------------------------------------------------------------------------------------------------

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
}
BAD_CHIP = """
name = "Wrong in four ways"
[matrix_unit.rate]
bf16 = { value = 100, unit = "GB", estimate = true, note = "a wrong unit" }
[overhead]
launhc = { value = 2, unit = "us", estimate = true, note = "a misspelt key" }
[[memory]]
name = "hbm"
role = "dram"
capacity = { value = -80, unit = "GB", estimate = true, note = "a negative capacity" }
bandwidth = { value = 3, unit = "TB/s", estimate = true, note = "right" }
[[link]]
name = "a link without its bandwidth"
"""


def test_all_four_mistakes_of_a_file_are_told_at_once(ridgeline: Any, tmp_path: Path):
    (tmp_path / "wrong.toml").write_text(BAD_CHIP)
    said = ridgeline("analyze", "llama-3.1-8b", "wrong.toml").sentence(2)
    assert "wrong.toml: " in said
    assert "`matrix_unit.rate.bf16`: unit 'GB' does not measure FLOP/s" in said
    assert "missing key `link.a link without its bandwidth.bandwidth`" in said
    assert "unknown key `overhead.launhc`: did you mean `launch`?" in said
    assert "`memory.hbm.capacity`: -8e+10 B must be " in said
    assert said.count(";") == 3


def test_a_config_whose_heads_do_not_divide(ridgeline: Any, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"num_attention_heads": 7}))
    said = ridgeline("analyze", "config.json", "h100-sxm").sentence(2)
    assert "config.json: `hidden_size` is 64, which `num_attention_heads` = 7 does not divide" in said


def test_a_truncated_config(ridgeline: Any, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG)[:-20])
    said = ridgeline("analyze", "config.json", "h100-sxm").sentence(2)
    assert re.search(r"config\.json: not JSON at line 1, column \d+ .*cut off", said)


def test_a_family_that_is_unknown(ridgeline: Any, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"model_type": "mamba2"}))
    said = ridgeline("analyze", "config.json", "h100-sxm").sentence(2)
    assert "mamba2" in said
    assert "llama" in said


def test_a_good_config_is_accepted_by_file_and_by_folder(ridgeline: Any, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in ("config.json", str(tmp_path)):
        assert ridgeline("analyze", name, "h100-sxm", "--json").record["time"] > 0


ON_THE_H100 = ("analyze", "llama-3.1-8b", "h100-sxm")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("analyze", "llama-3.1-8b", "h100-smx"), ("unknown chip 'h100-smx'", "h100-sxm")),
        (("analyze", "lama-3.1-8b", "h100-sxm"), ("unknown model 'lama-3.1-8b'", "llama-3.1-8b")),
        (("analyze", "llama-3.1-8b", "no-such.toml"), ("no-such.toml: no such file",)),
        (("analyze", "no-such.json", "h100-sxm"), ("no-such.json",)),
        (("show", "chip", "xyzzy"), ("unknown chip 'xyzzy'", "ridgeline show chip")),
        (("show", "planet"), ("kind 'planet'", "chip, model, system")),
        ((*ON_THE_H100, "--batch", "0"), ("batch 0", "1 or more")),
        ((*ON_THE_H100, "--batch", "1.5"), ("batch 1.5", "whole number")),
        ((*ON_THE_H100, "--batch", "1,0"), ("batch 0", "1 or more")),
        ((*ON_THE_H100, "--batch", "1e400"), ("batch inf", "whole number")),
        ((*ON_THE_H100, "--context=-1"), ("context -1", "0 or more")),
        ((*ON_THE_H100, "--batch", "8:1"), ("--batch 8:1 is an empty range", "starts past its end")),
        ((*ON_THE_H100, "--batch", ""), ("--batch", "1:512:x2")),
        ((*ON_THE_H100, "--batch", "many"), ("'many'", "--batch", "1:512:x2")),
        ((*ON_THE_H100, "--acceptance", "2", "--verified", "4"), ("acceptance 2", "0 to 1")),
        ((*ON_THE_H100, "--skew", "-1"), ("skew -1", "0 or more")),
        ((*ON_THE_H100, "--plot", "roof.pdf"), ("--plot roof.pdf", ".html, .png, .svg")),
        ((*ON_THE_H100, "--report", "page.txt"), ("--report page.txt", ".html")),
        ((*ON_THE_H100, "--plot", "absent/roof.html"), ("--plot absent/roof.html", "no folder")),
        ((*ON_THE_H100, "--bathc", "1"), ("--bathc", "--batch")),
        ((*ON_THE_H100, "--precision", "fp7"), ("'fp7'", "fp6")),
        ((*ON_THE_H100, "--phase", "training"), ("'training'", "`train`")),
        ((*ON_THE_H100, "--latent", "folded"), ("'folded'", "absorbed")),
        ((*ON_THE_H100, "--residency", "hot"), ("'hot'", "warm")),
        ((*ON_THE_H100, "--level", "exact"), ("'exact'", "ideal")),
        ((*ON_THE_H100, "--convention", "mine"), ("'mine'", "survey-encoder")),
        (("analyze", "bert-base", "h100-sxm", "--phase", "decode"), ("bert-base is an encoder", "`encode`")),
        (("sensitivity", "llama-3.1-8b", "h100-sxm", "--batch", "1,2"), ("--batch", "1,2", "ridgeline sensitivity --help")),
        ((*ON_THE_H100, "--level", "mapped", "--stack", "vlm"), ("unknown stack 'vlm'", "the nearest are vllm")),
        (("analyze", "llama-3.1-8b"), ("CHIP", "ridgeline analyze --help")),
        (("thresholds", "llama-3.1-8b", "h100-sxm", "--verified", "0"), ("verified 0", "1")),
        (("analize", "llama-3.1-8b", "h100-sxm"), ("analize", "analyze")),
    ],
)
def test_bad_input_is_one_sentence_with_the_place_and_the_remedy(
    ridgeline: Any, arguments: tuple[str, ...], parts: tuple[str, ...]
):
    said = ridgeline(*arguments).sentence(2)
    for part in parts:
        assert part in said
    assert "Input should be" not in said  # words of a library about its own types


@pytest.mark.parametrize("batch", ["1", "1:8:x2"])
def test_what_fits_nowhere_exits_3_with_the_bytes_and_the_chips(ridgeline: Any, batch: str):
    """Llama 3.1 405B: 126 layers, width 16 384, feed-forward 53 248; ten H100 are 800 GB, and the weights 812."""
    said = ridgeline("analyze", "llama-3.1-405b", "h100-sxm", "--level", "ideal", "--batch", batch, "--context", "2048").sentence(3)
    layer = 2 * 16384 * 16384 + 2 * 16384 * 1024 + 3 * 16384 * 53248 + 2 * 16384
    weights = 2 * (126 * layer + 2 * 128256 * 16384 + 16384)
    cache = 2048 * 126 * 2 * 8 * 128 * 2
    logits = 2 * (16384 + 128256)
    assert f"{weights + cache + logits - 80_000_000_000} bytes" in said
    assert "11 chips would hold it" in said


# ---- as a process -----------------------------------------------------------------------------------------------------------


def process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "ridgeline", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_process_answers_and_fails_alike(tmp_path: Path):
    good = process("analyze", "llama-3.1-8b", "h100-sxm", "--json", folder=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["bound"] == "memory.hbm"
    bad = process("analyze", "llama-3.1-8b", "h100-smx", "--json", folder=tmp_path)
    Ran(bad.returncode, bad.stdout, bad.stderr).sentence(2)
    large = process("analyze", "llama-3.1-405b", "h100-sxm", folder=tmp_path)
    Ran(large.returncode, large.stdout, large.stderr).sentence(3)


def test_every_command_is_a_function_of_the_package():
    import ridgeline as package

    others = {
        "map": "map_matmul",
        "survey": "survey_accelerators",
        "plan": "plan_chips",
        "cost": "machine_cost",
        "show": "load_chip",
    }
    commands = {one.name or getattr(one.callback, "__name__", "") for one in cli.app.registered_commands}
    assert {"analyze", "optimise", "query", "measure"} <= commands
    for name in [*(others.get(one, one) for one in commands), "drawn", "Drawn", "Optimised"]:
        assert callable(getattr(package, name)), name
        assert name in package.__all__


def test_help_and_a_closed_pipe(tmp_path: Path):
    shown = process("--help", folder=tmp_path)
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in ("analyze", "thresholds", "show"))
    command = f"{sys.executable} -P -m ridgeline show chips | head -1"
    piped = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in piped.stderr


def test_starting_up_imports_nothing_heavy(tmp_path: Path):
    """What the command does not need at once it imports when it needs it."""
    heavy = ("numpy", "plotly", "pydantic", "matplotlib", "numba", "jax", "torch", "pandas")
    code = f"import sys; import ridgeline.cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
