"""The command: parses, calls a verb, prints; with `--json` one JSON object on stdout, and all but the answer on stderr.

Exit codes: 0, 2 for bad input with one sentence on stderr, 3 where nothing that was asked is feasible.
"""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline.errors import InputError, RidgelineError

app = typer.Typer(
    name="ridgeline",
    help="What bounds this workload on this machine, by how much, and what would move it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from ridgeline import __version__

        print(f"ridgeline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Say what bounds a workload on a machine, by how much, and what would move it."""


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A catalogue name, a .toml file, or a Hugging Face config.json.")]
ChipName = Annotated[str, typer.Argument(metavar="CHIP", help="A catalogue name or a .toml file.")]
ChipOrSystem = Annotated[str, typer.Argument(metavar="CHIP|SYSTEM", help="A catalogue name or a .toml file.")]
Range = "One number, a list 1,2,4, or a range 1:512:x2, 0:1:0.1."
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object in SI units.")]
PrecisionName = Annotated[
    str | None,
    typer.Option("--precision", help="bf16, fp8, int8, w4a16kv8, q4_k_m, w:fp8,a:bf16,kv:fp8 …; default: as published."),
]
PriceText = Annotated[
    list[str] | None,
    typer.Option("--price", help="purchase or rental; or terms, as in life=4year, electricity=0.1USD/kW/h; may be repeated."),
]


@app.command()
def analyze(
    model: ModelName,
    chip: ChipOrSystem,
    count: Annotated[int | None, typer.Option(help="Chips; with a chip's name, of the smallest system that has enough.")] = None,
    plan: Annotated[
        str | None, typer.Option(help="How they are used: tp, dp, pp, ep, cp, sp degrees, mb, overlap …, as in tp=8,pp=2.")
    ] = None,
    phase: Annotated[str | None, typer.Option(help="encode, prefill, decode, generate or train.")] = None,
    batch: Annotated[str | None, typer.Option(help=f"Sequences. {Range}")] = None,
    prompt: Annotated[str | None, typer.Option(help=f"New tokens of a prompt. {Range}")] = None,
    context: Annotated[
        str | None, typer.Option(help=f"Tokens attended to in decode; tokens cached before in prefill. {Range}")
    ] = None,
    output: Annotated[str | None, typer.Option(help=f"Tokens to generate. {Range}")] = None,
    samples: Annotated[str | None, typer.Option(help=f"Sequences that share a prompt's cache. {Range}")] = None,
    verified: Annotated[str | None, typer.Option(help=f"Tokens a sequence verifies at once in decode. {Range}")] = None,
    acceptance: Annotated[str | None, typer.Option(help=f"Probability that a speculated token is kept. {Range}")] = None,
    source_tokens: Annotated[str | None, typer.Option(help=f"Encoder tokens that cross-attention reads. {Range}")] = None,
    skew: Annotated[float, typer.Option(help="Zipf exponent of expert popularity; 0 is uniform.")] = 0.0,
    latent: Annotated[str | None, typer.Option(help="Latent attention: absorbed, expanded or cached-expanded.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Of a train step: sgd, momentum, adam (default), adafactor, adahessian or shampoo.")
    ] = None,
    rematerialisation: Annotated[str | None, typer.Option(help="Of a train step: none, selective or full.")] = None,
    rematerialised: Annotated[str | None, typer.Option(help=f"Share of the layers to which that applies. {Range}")] = None,
    zero: Annotated[int | None, typer.Option(help="Stage of ZeRO, 0 to 3.")] = None,
    data_ranks: Annotated[str | None, typer.Option(help=f"Data ranks, each with its own batch. {Range}")] = None,
    precision: PrecisionName = None,
    level: Annotated[str | None, typer.Option(help="ideal; mapped on many cores and arrays; simulated on arrays.")] = None,
    stack: Annotated[
        str | None, typer.Option(help="At level mapped on many cores: whose kernels; pytorch-eager, serving (default) …")
    ] = None,
    power_limit: Annotated[
        str | None, typer.Option(help="Of each board, below its own, as in `300 W`; at level mapped on many cores.")
    ] = None,
    fusion: Annotated[str, typer.Option(help="At level mapped: best (by cost), none, or all that can be fused.")] = "best",
    residency: Annotated[str, typer.Option(help="Where operands start: cold (main memory) or warm (last-level cache).")] = "cold",
    price: PriceText = None,
    convention: Annotated[
        str | None, typer.Option(help="Also count by ridgeline, pytorch, survey-encoder or survey-decoder.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a roofline: FILE.html, .png or .svg.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained page: FILE.html.")] = None,
    as_json: Json = False,
) -> None:
    """Say what bounds MODEL on CHIP, for one scenario or for ranges of them."""
    from ridgeline import api
    from ridgeline.report import page, plots

    _check_choice("latent", latent, api.LATENT_FORMS)
    _check_choice("residency", residency, ("cold", "warm"))
    _check_choice("fusion", fusion, api.FUSIONS)
    _check_suffix("plot", plot, plots.SUFFIXES)
    _check_suffix("report", report, (".html",))
    asked = {
        "batch": batch,
        "prompt": prompt,
        "context": context,
        "output": output,
        "samples": samples,
        "verified": verified,
        "rematerialised": rematerialised,
        "data_ranks": data_ranks,
    }
    scenario: dict[str, Any] = {
        name: _values(name, text) for name, text in (asked | {"acceptance": acceptance, "source_tokens": source_tokens}).items()
    }
    machine = _software_and_limit(chip, stack, power_limit, level)
    with _progress("analyzing") as progress:
        found = api.analyze(
            model,
            machine,
            count=count,
            plan=plan,
            phase=phase,
            precision=precision,
            level=level,
            residency="warm" if residency == "warm" else "cold",
            fusion=fusion,  # pyright: ignore[reportArgumentType]
            progress=progress,
            routing_skew=skew,
            latent=latent,
            optimizer=optimizer,
            rematerialisation=rematerialisation,
            zero=zero,
            **scenario,
        )
    counted = None
    if convention is not None and found.axes and not as_json:
        raise InputError("--convention with a range: --json prints the counts of every point, a table those of one scenario")
    if convention is not None:
        counted = api.count(model, convention=convention, phase=phase, precision=precision, routing_skew=skew, **scenario)
    if plot is not None:
        plots.write(plots.roofline(found), plot)
    if report is not None:
        page.write(found, report)
    _print_analysis(found, counted, price, as_json)
    for path in () if as_json else (plot, report):
        if path is not None:
            _say(f"wrote {path}")


def _print_analysis(found: Any, counted: Any, price: list[str] | None, as_json: bool) -> None:
    """Print what `analyze` found, with counts where they were asked for and money where prices are known."""
    from ridgeline.api.token_cost import priced_analysis
    from ridgeline.report import money, records, tables

    paid = priced_analysis(found, price)
    if as_json:
        extra = {} if counted is None else {"counts": records.counts_record(counted)}
        _print_json(records.analysis_record(found) | {"money": money.token_cost_record(paid, found.estimate.feasible)} | extra)
        for note in found.estimate.notes:
            _say(f"ridgeline: note: {note}")
        return
    tables.console().print(tables.analysis_tables(found))
    if paid is not None:
        tables.console().print(money.token_cost_text(paid))
    if counted is not None:
        tables.console().print(tables.counts_table(counted))


@app.command()
def thresholds(
    model: ModelName,
    chip: ChipName,
    precision: PrecisionName = None,
    verified: Annotated[float, typer.Option(help="Tokens a sequence verifies at once under speculation.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Say where the bound changes: ops:byte, critical batch, prompt length, KV bytes, tensor parallelism."""
    from ridgeline import api
    from ridgeline.report import records, tables

    found = api.thresholds(model, chip, precision=precision, verified=verified)
    if as_json:
        _print_json(records.thresholds_record(found))
    else:
        tables.console().print(tables.thresholds_table(found))


@app.command("map")
def map_product(
    layer: Annotated[
        str, typer.Argument(metavar="MxKxN", help="A product 128x768x3072, or a convolution k=64,c=3,p=112,q=112,r=7,s=7.")
    ],
    chip: ChipName,
    dataflow: Annotated[str | None, typer.Option(help="weight-, output- or input-stationary; default: the chip's own.")] = None,
    objective: Annotated[str, typer.Option(help="latency, energy or edp.")] = "latency",
    mapping: Annotated[str | None, typer.Option(help="A loop nest in Timeloop's form, to cost instead of searching.")] = None,
    precision: PrecisionName = None,
    timeline: Annotated[Path | None, typer.Option(help="Simulate it and write FILE.json, a time line for Perfetto.")] = None,
    as_json: Json = False,
) -> None:
    """Cut a matrix product or convolution best for CHIP's array, with the proof, or cost a given mapping."""
    from ridgeline import api
    from ridgeline.report import records, tables, timelines

    _check_suffix("timeline", timeline, (".json",))
    found = api.map_matmul(
        layer, chip, dataflow=dataflow, objective=objective, mapping=mapping, precision=precision, simulate=timeline is not None
    )
    if timeline is not None:
        timelines.write(found, timeline)
    if as_json:
        _print_json(records.mapped_record(found))
    else:
        tables.console().print(tables.mapped_table(found))
    if timeline is not None:
        _say(f"wrote {timeline}: open it at ui.perfetto.dev")


@app.command()
def serve(
    model: ModelName,
    chip: ChipName,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    trace: Annotated[Path | None, typer.Option(help="A CSV file: arrival time, prompt tokens, output tokens.")] = None,
    requests: Annotated[int | None, typer.Option(help="Requests to play; default 1000, or the whole trace.")] = None,
    arrivals: Annotated[str, typer.Option(help="poisson, gamma or bursts.")] = "poisson",
    variation: Annotated[float, typer.Option(help="Coefficient of variation of the gaps, for gamma.")] = 1.0,
    burst: Annotated[int, typer.Option(help="Requests a burst.")] = 8,
    prompt: Annotated[str, typer.Option(help="Tokens: 1024, 128:2048 (uniform) or lognormal:1024,0.8.")] = "1024",
    output: Annotated[str, typer.Option(help="Tokens, likewise.")] = "128",
    prefix: Annotated[int, typer.Option(help="Tokens that prompts have in common.")] = 0,
    groups: Annotated[int, typer.Option(help="Groups of prompts with a common prefix.")] = 1,
    policy: Annotated[
        str, typer.Option(help="static, continuous, chunked, prefill-first, decode-first or disaggregated.")
    ] = "chunked",
    batch: Annotated[int, typer.Option(help="Sequences at once, at most.")] = 256,
    token_budget: Annotated[int, typer.Option(help="Tokens a step, at most.")] = 2048,
    page: Annotated[int, typer.Option(help="Tokens a page of the KV cache.")] = 16,
    preemption: Annotated[str, typer.Option(help="recompute or swap.")] = "recompute",
    swap_bandwidth: Annotated[str | None, typer.Option(help="To the host's memory, as in `50 GB/s`.")] = None,
    replicas: Annotated[int, typer.Option(help="Machines that serve; of a disaggregated service, that decode.")] = 1,
    prefill_replicas: Annotated[int, typer.Option(help="Machines that compute prompts of a disaggregated service.")] = 1,
    routing: Annotated[str, typer.Option(help="round-robin, least-outstanding or random.")] = "round-robin",
    link_bandwidth: Annotated[str | None, typer.Option(help="Between the pools, as in `400 Gbit/s`.")] = None,
    link_latency: Annotated[str, typer.Option(help="Between the pools, as in `10 us`.")] = "0 s",
    count: Annotated[int | None, typer.Option(help="Chips of a replica, of the smallest system that has enough.")] = None,
    plan: Annotated[str | None, typer.Option(help="How they are used, as in tp=8.")] = None,
    draft: Annotated[str | None, typer.Option(help="Speculate with this draft model.")] = None,
    draft_share: Annotated[
        float | None, typer.Option(help="Speculate with layers that cost this share of a step a drafted token.")
    ] = None,
    drafted: Annotated[int | None, typer.Option(help="Tokens drafted a step.")] = None,
    acceptance: Annotated[float | None, typer.Option(help="Probability that a drafted token is kept.")] = None,
    ttft: Annotated[str | None, typer.Option(help="Target for goodput, as in `500 ms`.")] = None,
    tpot: Annotated[str | None, typer.Option(help="Target for goodput, as in `50 ms`.")] = None,
    precision: PrecisionName = None,
    level: Annotated[str | None, typer.Option(help="Of the steps: ideal (default), or mapped on chips of many cores.")] = None,
    stack: Annotated[str | None, typer.Option(help="At level mapped: whose kernels and host; vllm, tensorrt-llm …")] = None,
    power_limit: Annotated[str | None, typer.Option(help="Of each board, below its own, as in `300 W`; at level mapped.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same result.")] = 0,
    price: PriceText = None,
    plot: Annotated[Path | None, typer.Option(help="Write the run over time: FILE.html, .png or .svg.")] = None,
    timeline: Annotated[Path | None, typer.Option(help="Write FILE.json, a time line for Perfetto.")] = None,
    as_json: Json = False,
) -> None:
    """Play requests through MODEL on CHIP: latencies, throughput, goodput, energy."""
    from ridgeline.api.serving import serve as play
    from ridgeline.api.token_cost import served_cost
    from ridgeline.report import money, panels, serving_plots, serving_records, serving_tables, tables

    _check_suffix("plot", plot, panels.SUFFIXES)
    _check_suffix("timeline", timeline, (".json",))
    quantities = {
        "swap_bandwidth": (swap_bandwidth, "B/s"),
        "link_bandwidth": (link_bandwidth, "B/s"),
        "link_latency": (link_latency, "s"),
        "ttft": (ttft, "s"),
        "tpot": (tpot, "s"),
    }
    options: dict[str, Any] = {name: _quantity(name, text, unit) for name, (text, unit) in quantities.items()}
    options |= {"rate": rate, "trace": trace, "requests": requests, "arrivals": arrivals, "variation": variation}
    options |= {"burst": burst, "prompt": prompt, "output": output, "prefix": prefix, "groups": groups, "seed": seed}
    options |= {"policy": policy, "most_sequences": batch, "token_budget": token_budget, "page": page}
    options |= {"preemption": preemption, "replicas": replicas, "prefill_replicas": prefill_replicas, "routing": routing}
    options |= {"draft": draft, "draft_share": draft_share, "length": drafted, "acceptance": acceptance}
    machine = _software_and_limit(chip, stack, power_limit, level or "ideal")
    with _progress("serving", worth=20_000) as progress:
        found = play(model, machine, level=level, precision=precision, count=count, plan=plan, progress=progress, **options)
    paid = served_cost(found, price)
    if plot is not None:
        panels.write_panels(serving_plots.over_time_picture(found), plot)
    if timeline is not None:
        serving_plots.write_time_line(found, timeline)
    if as_json:
        _print_json(serving_records.serving_record(found) | {"money": money.token_cost_record(paid)})
        for note in found.notes:
            _say(f"ridgeline: note: {note}")
    else:
        tables.console().print(serving_tables.serving_tables(found))
        if paid is not None:
            tables.console().print(money.token_cost_text(paid))
    for path in (plot, timeline):
        if path is not None:
            _say(f"wrote {path}")


@app.command()
def casestudy(
    mappings: Annotated[int, typer.Option(help="Random mappings for the statistics of their space.")] = 20_000,
    plot: Annotated[Path | None, typer.Option(help="Write the pictures: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Turn a CNN accelerator into a transformer accelerator, step by step, beside the survey's figures."""
    from ridgeline import api
    from ridgeline.report import case_study, panels, tables

    _check_suffix("plot", plot, panels.SUFFIXES)
    _say("computing the stages, fusions and a sample of mappings: some seconds")
    found = api.casestudy(mappings=mappings)
    if plot is not None:
        panels.write_panels(case_study.case_study_picture(found), plot)
    if as_json:
        _print_json(case_study.case_study_record(found))
    else:
        tables.console().print(case_study.case_study_tables(found))
    if plot is not None:
        _say(f"wrote {plot}")


def _refuse(mode: str, given: dict[str, Any], remedy: str) -> None:
    """Refuse options that a form of the command would not heed."""
    found = [name for name, value in given.items() if value]
    if found:
        raise InputError(f"{', '.join(found)}: not of {mode}: {remedy}")


@app.command()
def survey(
    node: Annotated[str, typer.Option(help="The common process node: 16, or `7 nm`.")] = "16",
    rule: Annotated[
        str, typer.Option(help="nominal, equations (with voltages), constant-field, post-dennard or fpga-frequency.")
    ] = "nominal",
    fpga_rule: Annotated[str | None, typer.Option(help="Another rule for FPGAs alone.")] = None,
    source_voltage: Annotated[str | None, typer.Option(help="For the rule equations: where designs are published.")] = None,
    target_voltage: Annotated[str | None, typer.Option(help="For the rule equations: at the common node.")] = None,
    designs: Annotated[list[str] | None, typer.Option("--with", help="A chip of yours, FILE.toml; may be repeated.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="Put the same model on every chip: bert-base, gpt2, llama-3.1-8b, all, or any model.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="With --workload: ideal for all chips; by default what each file allows.")
    ] = None,
    services: Annotated[bool, typer.Option("--services", help="Decode on SRAM-only and near-memory machines.")] = False,
    rank: Annotated[str | None, typer.Option(help="performance, efficiency, or speed-up with --baseline.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The machine that speed-ups are against, as in V100.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Rank these accelerators alone; may be repeated.")] = None,
    table: Annotated[Path | None, typer.Option(help="Another table of published figures: FILE.csv.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the picture: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Bring published accelerators to one process node, a design of yours among them; or one model to every chip."""
    from ridgeline.api.survey import compare_chips, survey_accelerators, survey_rule
    from ridgeline.api.survey import services as decode_services
    from ridgeline.report import panels, survey_plots, survey_records, survey_scatter, survey_tables

    _check_suffix("plot", plot, panels.SUFFIXES)
    volts = (_quantity("source_voltage", source_voltage, "V"), _quantity("target_voltage", target_voltage, "V"))
    voltages = None if volts == (None, None) else volts
    of_table = {"--fpga-rule": fpga_rule, "--rank": rank, "--baseline": baseline, "--only": only, "--table": table}
    if services:
        others = {"--workload": workload, "--level": level, "--with": designs, "--plot": plot, "--source-voltage": source_voltage}
        others |= {
            "--target-voltage": target_voltage,
            "--node": node if node != "16" else None,
            "--rule": rule if rule != "nominal" else None,
        }
        _refuse("--services", of_table | others, "it takes --json alone")
        found = decode_services()
        _answer(as_json, lambda: survey_records.services_record(found), lambda: survey_tables.services_table(found))
        return
    if workload is not None:
        _refuse("--workload", of_table, "leave it out, or leave out --workload for the table of published accelerators")
        rows = compare_chips(workload, node, rule=rule, voltages=voltages, level=level, designs=designs or ())
        text = survey_rule(node, rule, voltages).text
        if plot is not None:
            survey_scatter.write_scatter(survey_plots.comparison_picture(text, rows), plot)
        _answer(
            as_json, lambda: survey_records.comparison_record(text, rows), lambda: survey_tables.comparison_tables(text, rows), plot
        )
        return
    _refuse("the table of published accelerators", {"--level": level}, "give --workload too")
    whole = survey_accelerators(
        node,
        rule=rule,
        fpga_rule=fpga_rule,
        voltages=voltages,
        designs=designs or (),
        only=only or (),
        rank=rank,
        baseline=baseline,
        table=table,
    )
    if plot is not None:
        survey_scatter.write_scatter(survey_plots.survey_picture(whole), plot)
    _answer(as_json, lambda: survey_records.survey_record(whole), lambda: survey_tables.survey_tables(whole), plot)


@app.command()
def trends(
    until: Annotated[int, typer.Option(help="The last year of the projections.")] = 2030,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    plot: Annotated[Path | None, typer.Option(help="Write the pictures: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Fit the memory wall: peak, bandwidth, interconnect, models, latency and balance over the years."""
    from ridgeline.api.trends import trends as fit_trends
    from ridgeline.report import panels, survey_plots, survey_records, survey_tables

    _check_suffix("plot", plot, panels.SUFFIXES)
    found = fit_trends(confidence=confidence, until=until)
    if plot is not None:
        panels.write_panels(survey_plots.trends_picture(found), plot)
    _answer(as_json, lambda: survey_records.trends_record(found), lambda: survey_tables.trends_tables(found), plot)


@app.command()
def levers(
    model: ModelName,
    chip: ChipName,
    phase: Annotated[str | None, typer.Option(help="encode, prefill, decode or generate.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences.")] = None,
    prompt: Annotated[int | None, typer.Option(help="New tokens of a prompt.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens attended to in decode.")] = None,
    level: Annotated[str | None, typer.Option(help="ideal or mapped; by default as analyze.")] = None,
    residency: Annotated[str, typer.Option(help="Where operands start: cold (main memory) or warm (last-level cache).")] = "cold",
    precision: PrecisionName = None,
    plot: Annotated[Path | None, typer.Option(help="Write the tornado: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Say what would break the memory wall for MODEL on CHIP: one lever at a time, and the best pair."""
    from ridgeline.api.levers import levers as pull
    from ridgeline.report import panels, survey_plots, survey_records, survey_tables

    _check_choice("residency", residency, ("cold", "warm"))
    _check_suffix("plot", plot, panels.SUFFIXES)
    scenario: dict[str, Any] = {"batch": batch, "prompt": prompt, "context": context}
    found = pull(model, chip, phase=phase, precision=precision, level=level, residency=residency, **scenario)
    if plot is not None:
        survey_plots.write_tornado(found, plot)
    _answer(as_json, lambda: survey_records.levers_record(found), lambda: survey_tables.levers_tables(found), plot)


@app.command()
def explore(
    space: Annotated[Path, typer.Argument(metavar="SPACE.toml", help="What varies, over which chip: docs/explore.md.")],
    out: Annotated[Path, typer.Option(help="The folder of results; the same command goes on in it.")],
    engine: Annotated[str, typer.Option(help="local (processes of this machine) or dask.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Dask scheduler that runs already.")] = None,
    workers: Annotated[int | None, typer.Option(help="Local processes; default: one a core.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the front: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Compute every point of a space of designs and scenarios, and keep its Pareto set and a sample."""
    import os

    from ridgeline.api.explore import explore as sweep
    from ridgeline.report import explore_plots, explore_progress, explore_records, explore_tables, panels

    _check_choice("engine", engine, ("local", "dask"))
    _check_suffix("plot", plot, panels.SUFFIXES)
    processes = workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    with explore_progress.points_bar("exploring") as progress:
        found = sweep(space, out, workers=processes, engine=engine, address=address, progress=progress)
    if plot is not None:
        panels.write_panels(explore_plots.front_picture(found), plot)
    _answer(as_json, lambda: explore_records.exploration_record(found), lambda: explore_tables.exploration_tables(found), plot)


@app.command()
def query(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What explore has written.")],
    sql: Annotated[str, typer.Argument(metavar="SQL", help="Tables: pareto (the front) and points (the sample, or all).")],
    as_json: Json = False,
) -> None:
    """Ask the results of `explore` by SQL, as in "SELECT * FROM pareto ORDER BY time LIMIT 10"."""
    from ridgeline.api.explore import query as ask
    from ridgeline.report import explore_records, explore_tables

    columns, rows = ask(folder, sql)
    _answer(as_json, lambda: explore_records.query_record(columns, rows), lambda: explore_tables.query_table(columns, rows))


@app.command()
def optimise(
    space: Annotated[Path, typer.Argument(metavar="SPACE.toml", help="As for explore.")],
    budget: Annotated[int, typer.Option(help="Points that each search may compute.")] = 20_000,
    seeds: Annotated[int, typer.Option(help="Searches of each kind, with seeds from 0.")] = 3,
    population: Annotated[int, typer.Option(help="Points that NSGA-II holds.")] = 200,
    as_json: Json = False,
) -> None:
    """Search a space too large for `explore` by NSGA-II, beside random search with as many points."""
    from ridgeline.api.explore import optimise as search
    from ridgeline.report import explore_records, explore_tables

    found = search(space, budget=budget, seeds=seeds, population=population)
    _answer(as_json, lambda: explore_records.optimised_record(found), lambda: explore_tables.optimised_tables(found))


OneCount = Annotated[int | None, typer.Option(help="A whole number.")]
ChipCount = Annotated[int | None, typer.Option("--count", help="Chips, of the smallest system that has enough.")]
PlanText = Annotated[str | None, typer.Option("--plan", help="How they are used, as in tp=8,pp=2.")]
PhaseName = Annotated[str | None, typer.Option("--phase", help="encode, prefill, decode or generate.")]
LevelName = Annotated[str | None, typer.Option("--level", help="ideal or mapped; default: the chip's own.")]


@app.command()
def sensitivity(
    model: ModelName,
    chip: ChipOrSystem,
    count: ChipCount = None,
    plan: PlanText = None,
    phase: PhaseName = None,
    batch: OneCount = None,
    prompt: OneCount = None,
    context: OneCount = None,
    output: OneCount = None,
    precision: PrecisionName = None,
    level: LevelName = None,
    step: Annotated[
        float | None, typer.Option(help="Relative change to either side; default 1e-4 at ideal, 0.1 at mapped.")
    ] = None,
    price: PriceText = None,
    plot: Annotated[Path | None, typer.Option(help="Write the bars: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Say by how many per cent time, energy and cost change with one per cent more of each quantity, and what to buy next."""
    from ridgeline.api.money import read_pricing
    from ridgeline.api.sensitivity import sensitivity as vary
    from ridgeline.report import explore_plots, explore_records, explore_tables, panels

    _check_suffix("plot", plot, panels.SUFFIXES)
    scenario: dict[str, Any] = {"batch": batch, "prompt": prompt, "context": context, "output": output}
    kind, terms = read_pricing(price)
    scenario |= {"step": step, "terms": terms, "prices": kind}
    found = vary(model, chip, count=count, plan=plan, phase=phase, precision=precision, level=level, **scenario)
    if plot is not None:
        panels.write_panels(explore_plots.sensitivity_picture(found), plot)
    _answer(as_json, lambda: explore_records.sensitivity_record(found), lambda: explore_tables.sensitivity_tables(found), plot)


@app.command()
def solve(
    model: ModelName,
    chip: ChipOrSystem,
    quantity: Annotated[
        str, typer.Argument(metavar="QUANTITY", help="A dotted path, as memory.hbm.bandwidth; or batch, context …")
    ],
    time: Annotated[str | None, typer.Option(help="A step takes at most, as in `20 ms`.")] = None,
    ttft: Annotated[str | None, typer.Option(help="A prefill takes at most.")] = None,
    tpot: Annotated[str | None, typer.Option(help="A token of a sequence takes at most.")] = None,
    tokens_per_second: Annotated[float | None, typer.Option(help="Of all sequences, at least.")] = None,
    energy: Annotated[str | None, typer.Option(help="A step takes at most, as in `5 J`.")] = None,
    energy_per_token: Annotated[str | None, typer.Option(help="A token takes at most.")] = None,
    bound: Annotated[str | None, typer.Option(help="What is to bind: compute, memory.hbm …")] = None,
    most: Annotated[bool, typer.Option("--most", help="The largest value that meets the target, not the least.")] = False,
    start: Annotated[str | None, typer.Option("--from", help="Where the search begins; default a thousandth of the value.")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Where it ends; default a thousand times the value.")] = None,
    count: ChipCount = None,
    plan: PlanText = None,
    phase: PhaseName = None,
    batch: OneCount = None,
    prompt: OneCount = None,
    context: OneCount = None,
    output: OneCount = None,
    precision: PrecisionName = None,
    level: LevelName = None,
    as_json: Json = False,
) -> None:
    """Find the least (or the largest) value of one quantity that meets a target, with the neighbour that fails."""
    from ridgeline.api.solve import TARGETS, unit_of
    from ridgeline.api.solve import solve as invert
    from ridgeline.report import explore_records, explore_tables

    asked = {"time": time, "ttft": ttft, "tpot": tpot, "energy": energy, "energy_per_token": energy_per_token}
    targets = {name: _quantity(name, text, TARGETS[name][0]) for name, text in asked.items()}
    targets["tokens_per_second"] = tokens_per_second
    unit = unit_of(chip, quantity, count, plan) if start or stop else "1"
    options: dict[str, Any] = {"phase": phase, "batch": batch, "prompt": prompt, "context": context, "output": output}
    found = invert(
        model,
        chip,
        quantity,
        targets={name: value for name, value in targets.items() if value is not None},
        bound=bound,
        low=_quantity("from", start, unit),
        high=_quantity("to", stop, unit),
        most=most,
        count=count,
        plan=plan,
        precision=precision,
        level=level,
        **options,
    )
    _answer(as_json, lambda: explore_records.solved_record(found), lambda: explore_tables.solved_tables(found))


@app.command()
def plan(
    model: ModelName,
    chip: ChipOrSystem,
    count: Annotated[int, typer.Option(help="Chips.")],
    prompt: Annotated[int, typer.Option(help="Tokens of a request's prompt.")] = 1024,
    output: Annotated[int, typer.Option(help="Tokens that it asks for.")] = 256,
    batch: Annotated[int | None, typer.Option(help="Sequences at once; default: the best that is found.")] = None,
    ttft: Annotated[str | None, typer.Option(help="Target: first token after at most, as in `500 ms`.")] = None,
    tpot: Annotated[str | None, typer.Option(help="Target: each further token after at most, as in `50 ms`.")] = None,
    throughput: Annotated[float | None, typer.Option(help="Target: output tokens a second of all chips, at least.")] = None,
    power: Annotated[str | None, typer.Option(help="Target: power of all chips at most, as in `5 kW`.")] = None,
    dollars: Annotated[float | None, typer.Option(help="Target: dollars a million output tokens at most.")] = None,
    aim: Annotated[str, typer.Option(help="Best first by throughput, tpot, ttft, power or price.")] = "throughput",
    mode: Annotated[str, typer.Option(help="aggregated: all chips do both; disaggregated: two pools; or all.")] = "all",
    chunks: Annotated[str, typer.Option(help="Tokens of a prompt that a step takes; 0: all, in a step alone.")] = "0,512,2048",
    drafts: Annotated[str | None, typer.Option(help="Drafted tokens a step to try beside none, as in 2,4.")] = None,
    acceptance: Annotated[float | None, typer.Option(help="Probability that a drafted token is accepted.")] = None,
    draft_share: Annotated[float, typer.Option(help="Share of a step that drafting a token takes.")] = 0.0,
    load: Annotated[float, typer.Option(help="Play requests at this share of the best plan's throughput; 0: do not.")] = 0.7,
    precision: Annotated[list[str] | None, typer.Option("--precision", help="May be repeated; default: as published.")] = None,
    level: Annotated[str, typer.Option(help="ideal or mapped.")] = "ideal",
    context_parallel: Annotated[bool, typer.Option("--context-parallel", help="Cut contexts over chips as well.")] = False,
    overlap: Annotated[float, typer.Option(help="Share of the communication that runs beside work.")] = 0.0,
    samples: Annotated[str | None, typer.Option(help=f"Test-time compute instead of plans: chains a query. {Range}")] = None,
    chain: Annotated[str | None, typer.Option(help=f"Tokens of a chain of thought. {Range}")] = None,
    queries: Annotated[str, typer.Option(help=f"Queries at once, with --samples or --chain. {Range}")] = "1",
    quality: Annotated[Path | None, typer.Option(help="Your accuracies: a CSV of accuracy by tokens, samples or both.")] = None,
    method: Annotated[str, typer.Option(help="How samples are made: independent, beam or tree.")] = "independent",
    branching: Annotated[int, typer.Option(help="Ways in which a chain of a beam or tree goes on.")] = 4,
    segment: Annotated[int, typer.Option(help="Tokens between two branchings.")] = 128,
    price: PriceText = None,
    plot: Annotated[Path | None, typer.Option(help="Write the plans: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Cost every way to spread MODEL over so many chips, and rank those that meet the targets."""
    from ridgeline.api.money import read_pricing
    from ridgeline.api.plan import AIMS, plan_chips
    from ridgeline.api.plan_service import serve_plan
    from ridgeline.report import explore_plots, explore_records, explore_tables, panels

    _check_choice("aim", aim, AIMS)
    _check_choice("mode", mode, ("all", "aggregated", "disaggregated"))
    _check_choice("level", level, ("ideal", "mapped"))
    _check_suffix("plot", plot, panels.SUFFIXES)
    if samples is not None or chain is not None or quality is not None:
        of_plans = {"--output": output != 256, "--batch": batch is not None, "--ttft": ttft, "--tpot": tpot, "--power": power}
        of_plans |= {"--throughput": throughput is not None, "--dollars": dollars is not None, "--aim": aim != "throughput"}
        of_plans |= {"--mode": mode != "all", "--chunks": chunks != "0,512,2048", "--drafts": drafts, "--load": load != 0.7}
        of_plans |= {"--acceptance": acceptance is not None, "--draft-share": draft_share, "--overlap": overlap}
        of_plans |= {"--context-parallel": context_parallel}
        _refuse("--samples, --chain and --quality", of_plans, "leave it out, or leave those out to rank plans")
        search = {"method": method, "branching": branching, "segment": segment}
        grid = {"samples": samples, "chain": chain, "queries": queries}
        machine = {"count": count, "prompt": prompt, "precision": precision, "level": level}
        _scale_compute(model, chip, search, grid, machine, quality=quality, price=price, plot=plot, as_json=as_json)
        return
    of_chains = {"--queries": queries != "1", "--method": method != "independent", "--branching": branching != 4}
    _refuse("plans", of_chains | {"--segment": segment != 128}, "give --samples, --chain or --quality too")
    request: dict[str, Any] = {"prompt": prompt, "output": output, "batch": batch, "aim": aim, "throughput": throughput}
    request |= {"ttft": _quantity("ttft", ttft, "s"), "tpot": _quantity("tpot", tpot, "s"), "price": dollars}
    request |= {"power": _quantity("power", power, "W"), "acceptance": acceptance, "draft_share": draft_share}
    request |= {"chunks": _whole_numbers("chunks", chunks), "drafts": _whole_numbers("drafts", drafts)}
    request |= {"modes": None if mode == "all" else (mode,), "overlap": overlap}
    kind, terms = read_pricing(price)
    with _progress("planning", worth=200) as progress:
        found = plan_chips(
            model,
            chip,
            count,
            precision=precision,
            level=level,
            context_parallel=context_parallel,
            prices=kind,
            terms=terms,
            workers=os.cpu_count() or 1,
            progress=progress,
            **request,
        )
    if plot is not None:
        panels.write_panels(explore_plots.plans_picture(found), plot)
    served = serve_plan(found, load=load) if load else None
    _answer(
        as_json, lambda: explore_records.planned_record(found, served), lambda: explore_tables.planned_tables(found, served), plot
    )


def _scale_compute(
    model: str,
    chip: str,
    search: dict[str, Any],
    grid: dict[str, str | None],
    machine: dict[str, Any],
    *,
    quality: Path | None,
    price: list[str] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Print what longer chains and more samples cost: `plan` with --samples, --chain or --quality."""
    from ridgeline.api.money import read_pricing
    from ridgeline.api.test_time import METHODS, scale_compute
    from ridgeline.report import panels
    from ridgeline.report import test_time as report
    from ridgeline.search.test_time import Search

    _check_choice("method", search["method"], METHODS)
    formats: list[str] = machine.pop("precision") or []
    if len(formats) > 1:
        raise InputError(f"--precision {', '.join(formats)}: test-time compute takes one")
    kind, terms = read_pricing(price)
    asked = {name: _values(name, text) for name, text in grid.items()}
    asked |= {"precision": formats[0] if formats else None, "terms": terms, "prices": kind}
    found = scale_compute(model, chip, **asked, **machine, quality=quality, search=Search(**search))
    if plot is not None:
        panels.write_panels(report.scaling_picture(found), plot)
    _answer(as_json, lambda: report.scaling_record(found), lambda: report.scaling_tables(found), plot)


@app.command()
def cost(
    machine: ChipOrSystem,
    count: ChipCount = None,
    model: Annotated[str | None, typer.Option(help="Also price tokens of this model.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of a request's prompt.")] = 1024,
    output: Annotated[int, typer.Option(help="Tokens that it asks for.")] = 256,
    batch: Annotated[int, typer.Option(help="Sequences that decode at once.")] = 64,
    plan: PlanText = None,
    precision: PrecisionName = None,
    level: LevelName = None,
    price: PriceText = None,
    silicon: Annotated[
        list[str] | None,
        typer.Option(help="In place of the catalogue's: wafer=17000USD, defects=0.1/cm2, yield_model=murphy …; may be repeated."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the parts: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Say what CHIP or SYSTEM costs an hour, what a model's tokens cost on it, and what its silicon costs to make."""
    from ridgeline.api.machine_cost import machine_cost
    from ridgeline.report import money as money_report
    from ridgeline.report import panels

    _check_suffix("plot", plot, panels.SUFFIXES)
    request: dict[str, Any] = {"prompt": prompt, "output": output, "batch": batch, "precision": precision, "level": level}
    found = machine_cost(machine, count=count, plan=plan, price=price, silicon=silicon, model=model, **request)
    if plot is not None:
        panels.write_panels(money_report.cost_picture(*found), plot)
    _answer(as_json, lambda: money_report.cost_record(*found), lambda: money_report.cost_tables(*found), plot)


@app.command()
def show(
    kind: Annotated[str | None, typer.Argument(help="chip, model or system.")] = None,
    name: Annotated[str | None, typer.Argument(help="A name of the catalogue, or a file.")] = None,
    as_json: Json = False,
) -> None:
    """List the catalogue, or print one entry with the source of every number."""
    from ridgeline import api
    from ridgeline.report import records, tables

    if kind is None:
        catalogue = {one: api.names(one) for one in api.KINDS}
        if as_json:
            _print_json(catalogue)
        else:
            tables.console().print(tables.catalogue_table(catalogue))
        return
    kind = kind.removesuffix("s")
    _check_choice("kind", kind, api.KINDS)
    if name is None:
        found = [api.load_named(kind, one) for one in api.names(kind)]
        if as_json:
            _print_json({kind: [{"name": one.name, "title": one.title} for one in found]})
        else:
            tables.console().print(tables.entries_table(kind, found))
        return
    spec = api.load_named(kind, name)
    if as_json:
        _print_json(records.spec_record(spec))
    else:
        tables.console().print(tables.spec_table(spec))


@app.command()
def compare(
    chips: Annotated[list[str], typer.Argument(metavar="CHIP|SYSTEM…", help="Two or more names or files; 4xNAME is four.")],
    model: Annotated[str, typer.Option(help="A catalogue name, a .toml file, or a Hugging Face config.json.")],
    phase: Annotated[str | None, typer.Option(help="encode, prefill, decode or generate.")] = None,
    batch: Annotated[float | None, typer.Option(help="Sequences.")] = None,
    prompt: Annotated[float | None, typer.Option(help="New tokens of a prompt.")] = None,
    context: Annotated[float | None, typer.Option(help="Tokens attended to in decode; tokens cached before in prefill.")] = None,
    output: Annotated[float | None, typer.Option(help="Tokens to generate.")] = None,
    precision: PrecisionName = None,
    count: Annotated[int | None, typer.Option(help="Chips of each; of a chip's name, in the smallest system with enough.")] = None,
    plan: Annotated[str | None, typer.Option(help="How they are used, as in tp=8,pp=2.")] = None,
    level: Annotated[str | None, typer.Option(help="ideal, or mapped where the chips have it (default).")] = None,
    stack: Annotated[str | None, typer.Option(help="Whose kernels and host they run; default: serving.")] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Rank by joules a token instead of time.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write bars with their intervals: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Set chips or systems side by side for a workload, and say how sure their order is."""
    from ridgeline import api
    from ridgeline.report import compare_tables, panels

    _check_suffix("plot", plot, panels.SUFFIXES)
    asked = {"phase": phase, "batch": batch, "prompt": prompt, "context": context, "output": output, "precision": precision}
    asked |= {"count": count, "plan": plan, "level": level}
    found = api.compare(chips, model, stack=stack, **asked)
    if plot is not None:
        panels.write_panels(compare_tables.comparison_picture(found), plot)
    _answer(
        as_json,
        lambda: compare_tables.comparison_record(found, energy=energy),
        lambda: compare_tables.comparison_table(found, energy=energy),
        plot,
    )


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE.csv…", help="Measurements, one a row, in the schema of docs/validation.md.")
    ],
    rows: Annotated[Path | None, typer.Option(help="Write every row beside its prediction: FILE.csv.")] = None,
    as_json: Json = False,
) -> None:
    """Predict every row of measurement files, and print the errors by dataset and slice."""
    from ridgeline.api.validation import validate as judge
    from ridgeline.report import tables, validation_tables
    from ridgeline.validation.compare import rows_table

    _check_suffix("rows", rows, (".csv",))
    found = judge(files)
    if rows is not None:
        rows.write_text(rows_table(found.rows), encoding="utf-8")
    if as_json:
        _print_json(validation_tables.validation_record(found))
    else:
        tables.console().print(validation_tables.validation_table(found))
    for fault in found.faults:
        _say(f"ridgeline: not read: {fault}")
    if rows is not None:
        _say(f"wrote {rows}")


@app.command()
def measure(
    out: Annotated[Path | None, typer.Option(help="Write the chip file: FILE.toml, which must not be there yet.")] = None,
    rows: Annotated[Path | None, typer.Option(help="Write what was timed, in the schema of docs/validation.md: FILE.csv.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    models: Annotated[bool, typer.Option("--models", help="Also run GPT-2 and BERT Base with random weights.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shapes, each for a shorter time.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write bandwidths and predictions: FILE.html, .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Time kernels on this machine, make a chip file of half of them, and judge it by the other half."""
    from ridgeline.api.measure import measure as time_kernels
    from ridgeline.report import measure_progress, measure_tables, panels

    _check_suffix("plot", plot, panels.SUFFIXES)
    with measure_progress.works_bar() as progress:
        found = time_kernels(out=out, rows=rows, device=device, models=models, quick=quick, progress=progress)
    if plot is not None:
        panels.write_panels(measure_tables.measure_picture(found), plot)
    _answer(as_json, lambda: measure_tables.measure_record(found), lambda: measure_tables.measure_tables(found), plot)
    for path in (out, rows):
        if path is not None:
            _say(f"wrote {path}")


# ---- reading and printing ---------------------------------------------------------------------------------------------------


def _values(name: str, text: str | None) -> Any:
    """Return an option's number, or the list of its range; None where it was not given."""
    if text is None:
        return None
    from ridgeline.search.space import parse_range

    values = parse_range(text, name)
    return values if len(values) > 1 or ":" in text or "," in text else values[0]


def _whole_numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """Return an option's list of whole numbers."""
    if text is None:
        return None
    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise InputError(f"--{name} {text}: whole numbers with commas between them are wanted, as in 0,512") from None


def _software_and_limit(chip: str, stack: str | None, power_limit: str | None, level: str | None) -> Any:
    """Return a chip's name, or the chip with another stack and a power limit, which the level ideal knows nothing of."""
    from ridgeline import api

    for name, text, what in (("stack", stack, "runs no kernels"), ("power-limit", power_limit, "has no clock")):
        if text is not None and level == "ideal":
            raise InputError(f"--{name} {text}: the level ideal {what}: leave it out, or choose --level mapped")
    machine = chip if stack is None else api.with_stack(chip, stack)
    watts = _quantity("power_limit", power_limit, "W")
    return machine if watts is None else api.with_power_limit(machine, watts)


def _quantity(name: str, text: str | None, unit: str) -> float | None:
    """Return an option's quantity in SI units; a number without a unit is in them already."""
    if text is None:
        return None
    from ridgeline.quantities import parse

    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parse(text, unit)
    except ValueError as error:
        raise InputError(f"--{name.replace('_', '-')} {text}: {error}") from None


def _check_choice(name: str, value: str | None, accepted: tuple[str, ...]) -> None:
    if value is not None and value not in accepted:
        raise InputError(f"{name} {value!r}: choose {', '.join(accepted)}")


def _check_suffix(name: str, path: Path | None, accepted: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written before the work is done, so that no work is lost."""
    if path is None:
        return
    if path.suffix.lower() not in accepted:
        raise InputError(f"--{name} {path}: a name that ends in {', '.join(accepted)} is wanted")
    if not path.absolute().parent.is_dir():
        raise InputError(f"--{name} {path}: there is no folder {path.absolute().parent}")


def _answer(as_json: bool, record: Callable[[], dict[str, Any]], table: Callable[[], Any], plot: Path | None = None) -> None:
    """Print an answer in the form that was asked for, and the name of a picture that was written."""
    from ridgeline.report import tables

    if as_json:
        _print_json(record())
    else:
        tables.console().print(table())
    if plot is not None:
        _say(f"wrote {plot}")


def _print_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, allow_nan=False, ensure_ascii=False))


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


_WORTH_A_BAR = 100_000


@contextmanager
def _progress(name: str, worth: int = _WORTH_A_BAR) -> Generator[Callable[[int, int], None]]:
    """Show a bar on stderr once the work turns out to be long."""
    bar: Any = None

    def advance(done: int, points: int) -> None:
        nonlocal bar
        if points < worth:
            return
        if bar is None:
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(console=Console(stderr=True), transient=True)
            bar.start()
            bar.add_task(name, total=points)
        bar.update(0, completed=done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


# What Typer raises for a wrong option or a missing argument; releases differ in where the class lives.
_USAGE_ERROR: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")


def _command() -> str:
    """Return the command that was called, with a space, where it is one."""
    known = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    return f"{sys.argv[1]} " if len(sys.argv) > 1 and sys.argv[1] in known else ""


_NUMBERS = {"int_parsing": "one whole number", "int_from_float": "one whole number", "float_parsing": "one number"}


def _usage(error: Any) -> str:
    """Return what is wrong with an option; where a number is wanted, in words of our own."""
    option = max(getattr(getattr(error, "param", None), "opts", ()), key=len, default="")
    for fault in getattr(error.__cause__, "errors", list[Any])():
        if fault["type"] in _NUMBERS:
            return f"{option} {fault['input']}: {_NUMBERS[fault['type']]} is wanted here"
    return str(error.format_message()).rstrip(".")


def main() -> None:
    """Run the command; every error that a user can mend is one sentence."""
    try:
        code = app(standalone_mode=False, prog_name="ridgeline")
    except RidgelineError as error:
        _say(f"ridgeline: {error}")
        sys.exit(error.exit_code)
    except _USAGE_ERROR as error:
        sentence = _usage(error)
        if sentence:  # without any argument the help has been printed, and nothing is left to say
            _say(f"ridgeline: {sentence}: `ridgeline {_command()}--help` shows what is accepted")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
