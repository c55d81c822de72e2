"""Reading `config.json`: every family, the defaults that files leave out, and what a wrong file is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from ridgeline.catalogue import load
from ridgeline.errors import InputError
from ridgeline.specs.base import quantities
from ridgeline.specs.model import ConvolutionalModel, Model
from ridgeline.specs.precision import Precision
from ridgeline.workload.hugging_face import FAMILIES, read_config
from ridgeline.workload.parameters import parameters

ROTARY = {
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 100,
}
MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}


def read(family: str, **values: Any) -> Model:
    model = read_config({**ROTARY, "model_type": family, **values}, name="small")
    assert isinstance(model, Model)
    return model


def attention(model: Model, group: int = 0) -> Any:
    return model.decoder[group].attention


def counts(model: Model) -> dict[str, int]:
    return {layer.name: layer.count for layer in model.decoder}


# ---- defaults that files leave out


def test_llama_without_kv_heads_and_head_size_has_as_many_kv_heads_as_heads() -> None:
    model = read("llama")
    assert (attention(model).kv_heads, attention(model).head_size, attention(model).rotary_size) == (4, 16, 16)
    assert not model.tied
    assert model.norm == "rms"
    assert model.precision == "bf16"


def test_llama_head_size_need_not_divide_the_width() -> None:
    assert attention(read("llama", head_dim=24)).head_size == 24


@pytest.mark.parametrize(
    ("family", "tied"),
    [("llama", False), ("mistral", False), ("qwen2", False), ("phi3", False), ("gemma", True), ("gemma2", True)],
)
def test_tied_embeddings_by_default(family: str, tied: bool) -> None:
    assert read(family, num_key_value_heads=2).tied is tied
    assert read(family, num_key_value_heads=2, tie_word_embeddings=not tied).tied is not tied


def test_gpt2_defaults() -> None:
    model = read_config({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100})
    assert isinstance(model, Model)
    assert model.decoder[0].feed_forward is not None
    assert model.decoder[0].feed_forward.width == 256
    assert (model.positions, model.maximum_context, model.tied, model.norm) == (1024, 1024, True, "layer")
    assert attention(model).query_bias
    assert attention(model).rotary_size == 0


def test_opt_has_two_more_positions_than_tokens_and_may_have_a_narrow_table() -> None:
    model = read("opt", ffn_dim=256, max_position_embeddings=128, word_embed_proj_dim=32)
    assert (model.positions, model.maximum_context, model.embedding_size) == (130, 128, 32)
    assert read("opt", ffn_dim=256, word_embed_proj_dim=64).embedding_size is None


def test_bloom_is_four_times_as_wide_inside_and_has_no_positions() -> None:
    model = read("bloom", n_layer=3, n_head=8)
    assert model.decoder[0].feed_forward is not None
    assert (model.decoder[0].feed_forward.width, model.positions, model.embedding_norm, model.tied) == (256, 0, True, True)


@pytest.mark.parametrize(("family", "context"), [("bert", 512), ("roberta", 510)])
def test_bert_and_its_heads(family: str, context: int) -> None:
    masked = read(family, architectures=["BertForMaskedLM"])
    assert (masked.kind, masked.head, masked.pooler, masked.final_norm) == ("encoder", "masked-language", False, False)
    assert masked.maximum_context == context
    plain = read(family, architectures=["BertModel"])
    assert (plain.head, plain.pooler) == ("none", True)
    classifier = read(family, architectures=["BertForSequenceClassification"], id2label={"0": "a", "1": "b", "2": "c"})
    assert (classifier.head, classifier.labels) == ("classifier", 3)


def test_gemma2_alternates_windows() -> None:
    model = read("gemma2", num_key_value_heads=2)
    assert counts(model) == {"sliding": 3, "full": 3}
    assert (attention(model).window, attention(model, 1).window) == (4096, None)
    assert (attention(model).head_size, model.decoder[0].norms) == (256, 4)


def test_gemma3_has_five_windows_to_one_or_what_the_file_lists() -> None:
    model = read("gemma3_text", num_key_value_heads=2, sliding_window=512)
    assert counts(model) == {"sliding": 5, "full": 1}
    assert attention(model).query_key_norm
    listed = read("gemma3_text", num_key_value_heads=2, layer_types=["full_attention", "sliding_attention"] * 3)
    assert counts(listed) == {"full": 3, "sliding": 3}


def test_the_language_part_of_a_multimodal_file_is_read() -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 6, "intermediate_size": 96}
    model = read_config({"model_type": "gemma3", "text_config": inner, "torch_dtype": "float16"})
    assert isinstance(model, Model)
    assert (model.vocabulary, attention(model).heads, attention(model).kv_heads) == (262208, 8, 4)
    assert (model.precision, model.family) == ("fp16", "gemma3")


def test_mistral_window_is_4096_where_it_is_left_out_and_none_where_it_is_null() -> None:
    assert attention(read("mistral", num_key_value_heads=2)).window == 4096
    assert attention(read("mistral", num_key_value_heads=2, sliding_window=None)).window is None
    assert attention(read("mixtral", num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)).window is None


def test_qwen2_has_biases_and_windows_only_where_asked() -> None:
    model = read("qwen2")
    assert (attention(model).query_bias, attention(model).output_bias, attention(model).window) == (True, False, None)
    windowed = read("qwen2", use_sliding_window=True, sliding_window=128, max_window_layers=4)
    assert counts(windowed) == {"full": 4, "sliding": 2}


def test_qwen3_norms_queries_and_keys_with_heads_of_128() -> None:
    model = read("qwen3")
    assert (attention(model).query_key_norm, attention(model).head_size, attention(model).query_bias) == (True, 128, False)


def test_qwen_mixtures() -> None:
    values = {**MIXTURE, "num_experts": 8, "num_key_value_heads": 2}
    shared = read("qwen2_moe", **values, shared_expert_intermediate_size=48, decoder_sparse_step=2)
    assert counts(shared) == {"dense": 3, "moe": 3}
    assert shared.decoder[1].experts is not None
    assert (shared.decoder[1].experts.shared_width, shared.decoder[1].experts.shared_gate) == (48, True)
    plain = read("qwen3_moe", **values, shared_expert_intermediate_size=48, mlp_only_layers=[0])
    assert counts(plain) == {"dense": 1, "moe": 5}
    assert plain.decoder[1].experts is not None
    assert plain.decoder[1].experts.shared_width == 0


def test_qwen3_next_attends_in_every_fourth_layer() -> None:
    values = {**MIXTURE, "num_experts": 8, "num_key_value_heads": 2, "num_hidden_layers": 8}
    model = read("qwen3_next", **values, shared_expert_intermediate_size=48)
    assert counts(model) == {"linear": 6, "full": 2}
    assert model.decoder[0].attention is None
    assert (attention(model, 1).output_gate, attention(model, 1).rotary_size) == (True, 64)


def test_gpt_oss_alternates_windows_with_sinks_and_biases() -> None:
    model = read("gpt_oss", num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2)
    assert counts(model) == {"sliding": 3, "full": 3}
    assert (attention(model).window, attention(model).sinks, attention(model).output_bias) == (128, True, True)
    assert model.decoder[0].experts is not None
    assert (model.decoder[0].experts.bias, model.decoder[0].experts.router_bias) == (True, True)


def test_llama4_interleaves_chunks_and_experts() -> None:
    values = {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 192, "num_hidden_layers": 8}
    model = read("llama4_text", num_key_value_heads=2, interleave_moe_layer_step=2, **values)
    assert counts(model) == {"chunked-dense": 4, "chunked-moe": 2, "full-moe": 2}
    assert (attention(model).window, attention(model).window_kind) == (8192, "chunked")
    assert (attention(model, 2).window, attention(model, 2).rotary_size, attention(model, 2).query_key_norm) == (None, 0, False)
    assert counts(read("llama4_text", num_key_value_heads=2, **values)) == {"chunked": 6, "full": 2}


def test_deepseek_latent_attention_and_leading_dense_layers() -> None:
    values = {**MIXTURE, "n_routed_experts": 8, "n_shared_experts": 2, "num_nextn_predict_layers": 1}
    model = read("deepseek_v3", **values)
    assert counts(model) == {"dense": 3, "moe": 3}
    latent = attention(model).latent
    assert (latent.rank, latent.query_rank, latent.rotary_size) == (512, 1536, 64)
    assert attention(model).rotary_size == 0
    assert model.decoder[1].experts is not None
    assert (model.decoder[1].experts.shared_width, model.prediction_layers) == (64, 1)
    assert attention(read("deepseek_v2", **values, q_lora_rank=None)).latent.query_rank is None
    assert attention(read("deepseek_v32", **values)).indexer.selected == 2048
    assert (attention(read("glm_moe_dsa", **values)).head_size, attention(read("glm_moe_dsa", **values)).values) == (192, 256)


def test_glm_rotates_half_of_each_head() -> None:
    model = read("glm4_moe", **MIXTURE, n_routed_experts=8, n_shared_experts=1, num_key_value_heads=2, attention_bias=True)
    assert (attention(model).rotary_size, attention(model).query_bias, attention(model).output_bias) == (8, True, False)


def test_side_by_side_blocks() -> None:
    gptj = read_config({"model_type": "gptj", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100, "rotary_dim": 8})
    assert isinstance(gptj, Model)
    assert (gptj.parallel_block, gptj.head_bias, gptj.decoder[0].norms, attention(gptj).rotary_size) == (True, True, 1, 8)
    neox = read("gpt_neox", rotary_pct=0.25)
    assert (neox.parallel_block, neox.decoder[0].norms, attention(neox).rotary_size) == (True, 2, 4)
    phi = read("phi", partial_rotary_factor=0.5)
    assert (phi.parallel_block, phi.head_bias, attention(phi).output_bias) == (True, True, True)
    falcon = read("falcon")
    assert (attention(falcon).kv_heads, falcon.decoder[0].norms, falcon.tied) == (1, 1, True)
    grouped = read("falcon", new_decoder_architecture=True, num_kv_heads=2)
    assert (attention(grouped).kv_heads, grouped.decoder[0].norms) == (2, 2)


def test_kv_heads_by_layer() -> None:
    model = read("deci", num_key_value_heads_per_layer=[4, 4, 2, 2, 2, 1])
    assert counts(model) == {"kv-4": 2, "kv-2": 3, "kv-1": 1}
    assert [layer.attention.kv_heads for layer in model.decoder if layer.attention] == [4, 2, 1]


def test_searched_blocks() -> None:
    blocks = [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 5.25}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 2.625}},
    ]
    model = read("nemotron-nas", block_configs=blocks * 3, hidden_size=768)
    assert [layer.count for layer in model.decoder] == [3, 3]
    # 2/3 · 5.25 · 768 = 2688, rounded up to a multiple of 256
    assert [layer.feed_forward.width for layer in model.decoder if layer.feed_forward] == [2816, 1536]
    assert model.decoder[1].attention is None


def test_other_decoders() -> None:
    assert attention(read("internlm")).output_bias
    assert not attention(read("internlm2", num_key_value_heads=2)).output_bias
    minimax = read("minimax_m2", num_local_experts=8, num_experts_per_tok=2, num_key_value_heads=2)
    assert (attention(minimax).query_key_norm_whole, attention(minimax).rotary_size) == (True, 64)
    bigcode = read_config({"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100})
    assert isinstance(bigcode, Model)
    assert attention(bigcode).kv_heads == 1


def test_t5_heads_are_free_of_the_width() -> None:
    values = {"d_model": 64, "num_layers": 2, "num_heads": 6, "d_ff": 96, "vocab_size": 100}
    model = read_config({"model_type": "t5", **values})
    assert isinstance(model, Model)
    assert (model.kind, model.decoder[0].count, model.decoder[0].norms) == ("encoder-decoder", 2, 3)
    assert (attention(model).head_size, attention(model).relative_buckets, model.tied) == (64, 32, True)
    assert model.decoder[0].cross_attention is not None
    assert model.decoder[0].cross_attention.relative_buckets == 0
    gated = read_config({"model_type": "t5", **values, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 4})
    assert isinstance(gated, Model)
    assert gated.encoder[0].feed_forward is not None
    assert (gated.encoder[0].feed_forward.gated, gated.encoder[0].feed_forward.activation) == (True, "gelu-tanh")
    assert gated.decoder[0].count == 4


def test_whisper_and_vision() -> None:
    values = {"d_model": 64, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 100}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layers": 2, "decoder_layers": 3}
    whisper = read_config({"model_type": "whisper", **values, **heads})
    assert isinstance(whisper, Model)
    assert (whisper.positions, whisper.encoder_positions) == (448, 1500)
    assert whisper.audio is not None
    assert whisper.audio.frames == 3000
    assert (attention(whisper).query_bias, attention(whisper).key_bias) == (True, False)
    vision = read("vit", image_size=32, patch_size=8, num_labels=10)
    assert (vision.kind, vision.positions, vision.labels, vision.class_token) == ("vision", 17, 10, True)
    assert read("vit", architectures=["ViTModel"]).head == "none"


def test_resnet_stride() -> None:
    values = {"model_type": "resnet", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]}
    model = read_config(values, name="resnet")
    first = read_config({**values, "downsample_in_bottleneck": True}, name="resnet")
    assert isinstance(model, ConvolutionalModel)
    assert isinstance(first, ConvolutionalModel)
    strides = {layer.name: layer.stride for layer in model.layers}
    assert (strides["stage2-first-reduce"], strides["stage2-first-spatial"]) == (1, 2)
    strides = {layer.name: layer.stride for layer in first.layers}
    assert (strides["stage2-first-reduce"], strides["stage2-first-spatial"]) == (2, 1)
    assert sum(layer.count for layer in model.layers) == 54  # 53 convolutions and the classifier


@pytest.mark.parametrize(
    ("values", "precision"),
    [
        ({"torch_dtype": "float16"}, "fp16"),
        ({"dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float32"}, "bf16"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8-block"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "w:bf16,e:mxfp4,a:bf16,kv:bf16"),
        ({"quantization_config": {"quant_method": "fbgemm_fp8"}}, "w:fp8,a:fp8,kv:bf16,emb:bf16,h:bf16"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "w:int4-g128,a:bf16,kv:bf16,emb:bf16,h:bf16"),
    ],
)
def test_precision_of_the_weights(values: dict[str, Any], precision: str) -> None:
    found = read("llama", **values).precision
    assert found == precision
    Precision.parse(found)


# ---- what is wrong is said, all of it at once


def problems(values: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_config(values, name="config.json")
    return str(caught.value).splitlines()


def test_an_unknown_family_is_named_with_those_known() -> None:
    (line,) = problems({**ROTARY, "model_type": "mamba"})
    assert "'mamba' is not known" in line
    assert all(family in line for family in FAMILIES)
    assert "`model_type` is missing" in problems(ROTARY)[0]


def test_heads_that_do_not_divide() -> None:
    (line,) = problems({**ROTARY, "model_type": "llama", "num_attention_heads": 5})
    assert line == ("config.json: `hidden_size` is 64, which `num_attention_heads` = 5 does not divide: change one of the two")
    (line,) = problems({**ROTARY, "model_type": "llama", "num_key_value_heads": 3})
    assert "`num_attention_heads` is 4, which `num_key_value_heads` = 3 does not divide" in line


def test_all_problems_of_a_file_are_reported_at_once() -> None:
    values = {**ROTARY, "model_type": "llama", "num_hidden_layers": 0, "intermediate_size": -1, "vocab_size": 1.5}
    del values["num_attention_heads"]
    lines = problems({**values, "tie_word_embeddings": "yes", "hidden_act": "siluu", "max_position_embeddings": True})
    expected = ["max_position_embeddings", "num_hidden_layers", "intermediate_size", "vocab_size", "num_attention_heads"]
    for key in [*expected, "tie_word_embeddings", "hidden_act"]:
        assert sum(f"`{key}`" in line for line in lines) == 1, key
    assert all(line.startswith("config.json: ") for line in lines)
    assert any("did you mean `silu`?" in line for line in lines)


@pytest.mark.parametrize(
    ("family", "values", "said"),
    [
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 8, "moe_intermediate_size": 8}, "more than the 4 experts"),
        ("gemma2", {"layer_types": ["full_attention"]}, "has 1 entries for 6 layers"),
        ("gemma2", {"layer_types": ["linear"] * 6}, "has linear: a list of one of sliding_attention"),
        ("deci", {"num_key_value_heads_per_layer": [4, 2]}, "6 whole numbers are wanted"),
        ("deci", {"num_key_value_heads_per_layer": [3] * 6}, "has a number that does not divide 4 heads"),
        ("nemotron-nas", {"block_configs": [{}]}, "`attention.n_heads_in_group`"),
        ("llama", {"num_hidden_layers": 10**9}, "at most 10000 layers"),
        ("llama", {"quantization_config": {"quant_method": "mystery"}}, "has the method 'mystery'"),
        ("llama", {"torch_dtype": "int3"}, "known are bfloat16, float16, float32"),
        ("llama", {"partial_rotary_factor": 2}, "a number above 0 and up to 1 is wanted"),
        ("deepseek_v2", {**MIXTURE, "n_routed_experts": 8, "attention_bias": True}, "false is wanted"),
        ("resnet", {"hidden_sizes": [1, 2], "depths": [3, 4, 6, 3]}, "4 whole numbers are wanted"),
        ("resnet", {}, "`depths` is missing"),
    ],
)
def test_wrong_values(family: str, values: dict[str, Any], said: str) -> None:
    assert any(said in line for line in problems({**ROTARY, "model_type": family, "num_key_value_heads": 2, **values}))


def test_files_that_are_no_config(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"model_type": "llama",\n "hidden_size": 40', encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json: not JSON at line 2, column \d+ .*cut off"):
        read_config(file)
    file.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(InputError, match="holds a JSON list, not an object"):
        read_config(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_config(file)
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        read_config(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path)


def test_a_model_is_named_after_its_file_or_its_folder(tmp_path: Path) -> None:
    text = json.dumps({**ROTARY, "model_type": "llama"})
    (tmp_path / "Small-1B").mkdir()
    for file in (tmp_path / "Small-1B" / "config.json", tmp_path / "Small-1B.json"):
        file.write_text(text, encoding="utf-8")
        assert read_config(file).name == "Small-1B"
    assert read_config(str(file), name="other").name == "other"


# ---- the catalogue is what the files say


def test_every_config_is_in_the_catalogue_with_equal_dimensions(facts: Path) -> None:
    files = sorted((facts / "catalogue" / "models").glob("*.json"))
    assert len(files) == 82
    for file in files:
        read_one, written = read_config(file), load.model(file.stem)
        published = {key for key in quantities(written) if key.startswith("published.")}
        assert quantities(read_one) == {k: v for k, v in quantities(written).items() if k not in published}, file.stem
        assert (read_one.family, read_one.precision) == (written.family, written.precision)
        assert parameters(read_one).total == parameters(written).total
