"""The commands that speak of money and of test-time compute: their JSON, their tables, their exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from ridgeline.cli import main

STEP = ("llama-3.1-8b", "h100-sxm", "--level", "ideal")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["ridgeline", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def record(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    picture = tmp_path / "cost.html"
    found = record(capsys, "cost", "h100-sxm", "--model", "llama-3.1-8b", "--level", "ideal", "--plot", str(picture))
    assert found["ownership"]["prices"] == "purchase"
    assert found["ownership"]["years"]["h100-sxm.package.price"] == 2023
    assert found["request"]["dollars_per_million_tokens"]["output"] > found["request"]["dollars_per_million_tokens"]["input"]
    assert found["silicon"]["yield"] == pytest.approx(0.487, abs=1e-3)
    assert all(one["confidence"] for one in found["sources"])
    assert "USD per million tokens" in picture.read_text(encoding="utf-8")
    code, table, _ = run(capsys, "cost", "h100-sxm", "--silicon", "yield_model=murphy", "--silicon", "wafer=20000 USD")
    assert code == 0
    assert "murphy" in table
    assert "20,000 USD" in table
    assert "2,532" not in table


def test_analyze_has_money_where_prices_are(capsys: pytest.CaptureFixture[str]):
    found = record(capsys, "analyze", *STEP, "--batch", "1,8", "--context", "512")["money"]
    assert found["dollars_per_million_tokens"]["input"] is None
    one, eight = found["dollars_per_million_tokens"]["output"]
    assert one > 5 * eight
    rented = record(capsys, "analyze", *STEP, "--context", "512", "--price", "rental")["money"]
    assert rented["prices"] == "rental"
    assert record(capsys, "analyze", "bert-base", "gemmini", "--prompt", "16", "--level", "ideal")["money"] is None
    code, table, _ = run(capsys, "analyze", *STEP, "--phase", "generate", "--prompt", "128", "--output", "8")
    assert code == 0
    assert "per million input tokens" in table.replace("\n", " ")


def test_serve_has_money(capsys: pytest.CaptureFixture[str]):
    asked = ("serve", "llama-3.1-8b", "h100-sxm", "--rate", "20", "--requests", "40", "--prompt", "200", "--output", "20")
    found = record(capsys, *asked, "--price", "utilisation=0.5")
    assert found["money"]["terms"]["utilisation"] == 0.5
    assert found["money"]["dollars_per_million_tokens"]["output"] > found["money"]["dollars_per_million_tokens"]["input"]


def test_plan_with_samples(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    curve, picture = tmp_path / "curve.csv", tmp_path / "points.html"
    curve.write_text("# made up\nsamples,tokens,accuracy\n1,64,0.2\n1,256,0.4\n16,64,0.5\n", encoding="utf-8")
    asked = ("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--prompt", "64")
    found = record(capsys, *asked, "--quality", str(curve), "--plot", str(picture))
    assert [one["accuracy"] for one in found["points"]] == [0.2, 0.4, 0.5]
    assert found["ladder"][0]["rungs"][-1]["cheaper"] == "parallel"  # nothing serial reaches 0.5
    assert "of a solved query" in picture.read_text(encoding="utf-8")
    tree = record(capsys, *asked, "--samples", "1:16:x4", "--chain", "64", "--method", "tree", "--segment", "16")
    assert [one["samples"] for one in tree["points"]] == [1, 4, 16]
    code, table, _ = run(capsys, *asked, "--quality", str(curve))
    assert code == 0
    assert "parallel" in table


CHAINS = ("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--samples", "4", "--chain", "8")
BAD: list[Any] = [
    (("cost", "gemmini"), 2, "has no price"),
    (("cost", "h100-sxm", "--price", "life=0year"), 2, "life 0"),
    (("cost", "h100-sxm", "--price", "free"), 2, "choose purchase or rental"),
    (("cost", "h100-sxm", "--silicon", "assembled=2"), 2, "a yield is more than 0 and at most 1"),
    (("cost", "h100-sxm", "--count", "0"), 2, "count 0"),
    (("analyze", *STEP, "--price", "pue=0.5"), 2, "pue 0.5"),
    (("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--samples", "4"), 2, "chain: how many"),
    (("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--chain", "8", "--method", "guess"), 2, "independent"),
    (("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--quality", "nowhere.csv"), 2, "nowhere.csv: cannot be read: No such"),
    ((*CHAINS, "--ttft", "1 s", "--tpot", "50 ms", "--aim", "ttft"), 2, "--ttft, --tpot, --aim: not of --samples"),
    ((*CHAINS, "--mode", "aggregated", "--batch", "8", "--load", "0"), 2, "--batch, --mode, --load: not of --samples"),
    (("plan", "llama-3.1-8b", "h100-sxm", "--count", "1", "--queries", "4"), 2, "--queries: not of plans"),
    (("plan", "llama-3.1-405b", "h100-sxm", "--count", "1", "--chain", "8"), 3, "short of memory"),
]


@pytest.mark.parametrize(("arguments", "code", "sentence"), BAD)
def test_exit_codes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, sentence: str):
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
