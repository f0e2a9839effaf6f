"""Text vectors: the prompt ensemble by hand, and CLIP with random weights through the real loading code."""

import json
import sys
import warnings

import numpy as np
import pytest

from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError, ModelError
from training.teachers.open_clip_loading import load_open_clip
from training.teachers.text_encoder import OpenClipTextEncoder, encode_texts, fingerprint_weights

TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


class TableEncoder:
    """Answers from a table and remembers what it was asked."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def encode(self, texts):
        self.asked += texts
        return np.array([self.table[text] for text in texts], np.float32)

    def describe(self):
        return {"encoder": "table"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder with the weights of two tiny CLIP models, which open_clip knows as tiny-clip and tiny-wide."""
    open_clip = pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("clip")
    wide = {**TINY, "text_cfg": {**TINY["text_cfg"], "width": 24, "heads": 3}}
    for name, config in (("tiny-clip", TINY), ("tiny-wide", wide)):
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
        torch.manual_seed(7)
        torch.save(open_clip.create_model(name).state_dict(), folder / f"{name}.pt")
    return folder


def test_the_ensemble_is_the_unit_mean_of_unit_vectors():
    encoder = TableEncoder({"a car": [3, 0], "the car": [0, 0.5], "a van": [0, 2], "the van": [0, 9]})

    vectors = encode_texts(encoder, ["car", "van"], ["a {}", "the {}"])

    # unit vectors (1, 0) and (0, 1), mean (0.5, 0.5), unit again; lengths 3 and 0.5 do not matter
    np.testing.assert_allclose(vectors, [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]], rtol=1e-6)
    assert vectors.dtype == np.float32


def test_equal_sentences_are_encoded_once_and_stand_in_every_row():
    encoder = TableEncoder({"car": [1, 0], "van": [0, 1]})

    vectors = encode_texts(encoder, ["car", "van", "car"], ["{}"])

    assert encoder.asked == ["car", "van"]
    assert vectors.tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize("vector", [[0, 0], [np.nan, 1], [np.inf, 1]])
def test_vectors_without_a_direction_are_refused_by_name(vector):
    with pytest.raises(InputError, match="the first is that of 'van'"):
        encode_texts(TableEncoder({"car": [1, 0], "van": vector}), ["car", "van"], ["{}"])


def test_opposite_vectors_have_no_mean():
    with pytest.raises(InputError, match="zero, NaN or infinite; the first is that of 'car'"):
        encode_texts(TableEncoder({"a car": [1, 0], "no car": [-1, 0]}), ["car"], ["a {}", "no {}"])


def test_nothing_to_encode_is_an_error():
    with pytest.raises(ConfigError, match="at least one text"):
        encode_texts(TableEncoder({}), [], ["{}"])
    with pytest.raises(ConfigError, match=r"one \{\}, got 'car'"):
        encode_texts(TableEncoder({}), ["car"], ["car"])


def test_clip_vectors_are_those_of_the_model(tiny):
    import open_clip
    import torch

    encoder = OpenClipTextEncoder("tiny-clip", str(tiny / "tiny-clip.pt"), batch_size=2)
    texts = ["car", "a big truck", "road"]
    reference = open_clip.create_model("tiny-clip")
    reference.load_state_dict(torch.load(tiny / "tiny-clip.pt", weights_only=True))
    with torch.no_grad():
        expected = reference.eval().encode_text(open_clip.get_tokenizer("tiny-clip")(texts)).numpy()

    vectors = encoder.encode(texts)

    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 8)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    unit = encode_texts(encoder, texts, ["{}", "a photo of a {}."])
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)


def test_clip_does_not_see_case_or_double_spaces(tiny):
    encoder = OpenClipTextEncoder("tiny-clip", str(tiny / "tiny-clip.pt"))

    upper, lower = encoder.encode(["a SUV", "a  suv"])

    np.testing.assert_array_equal(upper, lower)


def test_a_loaded_model_is_used_as_it_is(tiny):
    clip = load_open_clip("tiny-clip", str(tiny / "tiny-clip.pt"))

    encoder = OpenClipTextEncoder("tiny-clip", "whatever was loaded", clip=clip)

    assert encoder.clip is clip
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())


def test_the_description_knows_the_weights_themselves(tiny):
    import torch

    encoder = OpenClipTextEncoder("tiny-clip", str(tiny / "tiny-clip.pt"))
    before = encoder.describe()
    with torch.no_grad():
        encoder.clip.visual.proj += 1  # the image half takes no part
    assert encoder.describe() == before
    with torch.no_grad():
        encoder.clip.text_projection[0, 0] += 1e-3

    assert encoder.describe()["weights_sha256"] != before["weights_sha256"]
    assert json.loads(json.dumps(before)) == before
    assert len(fingerprint_weights(encoder.clip)) == 64


def test_a_text_longer_than_the_model_reads_is_refused(tiny):
    encoder = OpenClipTextEncoder("tiny-clip", str(tiny / "tiny-clip.pt"))

    encoder.encode(["car " * 13])  # start, 13 words, end, one of padding: 16
    with pytest.raises(ConfigError, match="fills the 15 tokens that tiny-clip reads; shorten it"):
        encoder.encode(["car", "car " * 20])


def test_an_unknown_model_names_the_nearest():
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match=r"no model 'ViT-B16'; did you mean .*ViT-B-16"):
        load_open_clip("ViT-B16", "openai")


def test_unknown_weights_list_the_tags():
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match=r"no weights 'opnai' for ViT-B-16; known tags: openai, "):
        load_open_clip("ViT-B-16", "opnai")


def test_a_missing_checkpoint_is_named(tmp_path):
    pytest.importorskip("open_clip")
    with pytest.raises(ConfigError, match=r"none\.pt does not exist; give a file, or a tag: openai"):
        load_open_clip("ViT-B-16", str(tmp_path / "none.pt"))


def test_a_checkpoint_of_another_architecture_is_named(tiny):
    with pytest.raises(ModelError, match=r"tiny-wide\.pt' of CLIP model 'tiny-clip' .* another architecture"):
        load_open_clip("tiny-clip", str(tiny / "tiny-wide.pt"))


def test_a_damaged_checkpoint_is_named(tiny, tmp_path):
    (tmp_path / "cut.pt").write_bytes((tiny / "tiny-clip.pt").read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cut\.pt' of CLIP model 'tiny-clip' could not be loaded"):
        load_open_clip("tiny-clip", str(tmp_path / "cut.pt"))


@pytest.fixture
def as_published(tiny, monkeypatch):
    """open_clip takes the file of tiny-clip for the published weights of ViT-B-16, and for a download of them."""
    open_clip = pytest.importorskip("open_clip")
    configs = open_clip.factory._MODEL_CONFIGS
    monkeypatch.setitem(configs, "ViT-B-16", TINY)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(tiny / "tiny-clip.pt"))


@pytest.mark.parametrize(
    ("tag", "activation"), [("openai", "QuickGELU"), ("metaclip_400m", "QuickGELU"), ("laion2b_s34b_b88k", "GELU")]
)
def test_published_weights_come_with_the_activation_they_were_trained_with(as_published, tag, activation):
    clip = load_open_clip("ViT-B-16", tag)

    found = {type(block.mlp.gelu).__name__ for tower in (clip, clip.visual) for block in tower.transformer.resblocks}
    assert found == {activation}
    assert OpenClipTextEncoder("ViT-B-16", tag, clip=clip).describe()["activation"] == activation


def test_the_files_that_openai_published_are_read(tmp_path):
    """TorchScript archives in half precision, with three numbers more than a CLIP has parameters."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    wide = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "width": 24, "head_width": 12}}
    (tmp_path / "tiny-openai.json").write_text(json.dumps(wide))
    open_clip.add_model_config(tmp_path / "tiny-openai.json")
    source = open_clip.create_model("tiny-openai")
    del source.attn_mask  # the tracer would keep it; OpenAI's files lack it
    for name, number in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 49408)):
        vars(source).pop(name, None)
        source.register_buffer(name, torch.tensor(number))
    inputs = {"encode_image": torch.zeros(1, 3, 32, 32)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of the checks in torch's attention
        traced = torch.jit.trace_module(source.eval(), inputs, check_trace=False)
    torch.jit.save(traced.half(), tmp_path / "OpenAI.pt")

    clip = load_open_clip("tiny-openai", str(tmp_path / "OpenAI.pt"))

    assert clip.visual.conv1.weight.dtype == torch.float32
    torch.testing.assert_close(clip.visual.proj, source.visual.proj.detach().half().float())
    assert OpenClipTextEncoder("tiny-openai", "OpenAI.pt", clip=clip).describe()["activation"] == "QuickGELU"
    with pytest.raises(ModelError, match=r"OpenAI\.pt' of CLIP model 'ViT-B-32' .* another architecture"):
        load_open_clip("ViT-B-32", str(tmp_path / "OpenAI.pt"))


def test_no_network_is_an_error_with_a_remedy(monkeypatch):
    open_clip = pytest.importorskip("open_clip")

    def refuse(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(open_clip, "create_model", refuse)
    with pytest.raises(ModelError, match=r"\(Network is unreachable\); without a network, give the path"):
        load_open_clip("ViT-B-16", "openai")


def test_without_open_clip_the_error_says_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingDependencyError, match="pip install open_clip_torch"):
        load_open_clip("ViT-B-16", "openai")
