"""Text encoders: words to unit vectors in the space that a teacher compares its pixels with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError, InputError
from training.prompt_templates import check_templates, fill_template
from training.teachers.open_clip_loading import activation_of, import_open_clip, load_open_clip

if TYPE_CHECKING:
    from torch import nn


class TextEncoder(Protocol):
    """The text half of a model such as CLIP."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) float32, one vector per text, of any length.

        Raises:
            ConfigError: a text is longer than the model reads.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What determines the vectors, in JSON types: model, weights and a fingerprint of them."""
        ...


def encode_texts(encoder: TextEncoder, texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """One vector per text: the mean over all templates of the unit vectors of the sentences, made unit again.

    This is the prompt ensemble of CLIP (Radford et al., ICML 2021, section 3.1.4); AFOV, SAN, FC-CLIP and MaskCLIP
    use it. Equal sentences are encoded once.

    Args:
        encoder: turns sentences into vectors.
        texts: T texts.
        templates: sentences with one ``{}`` each.

    Returns:
        (T, D) float32 unit vectors.

    Raises:
        ConfigError: no texts, or a template without ``{}``.
        InputError: the encoder answers with zeros or NaN.
    """
    if not texts:
        raise ConfigError("at least one text is needed to encode")
    templates = check_templates(templates, "templates")
    sentences = [fill_template(template, text) for text in texts for template in templates]
    unique = list(dict.fromkeys(sentences))
    row = {sentence: i for i, sentence in enumerate(unique)}
    vectors = normalize_rows(encoder.encode(unique), unique)[[row[s] for s in sentences]]  # (T * templates, D)
    means = vectors.reshape(len(texts), len(templates), -1).mean(axis=1, dtype=np.float64)
    return normalize_rows(means, texts)


def normalize_rows(vectors: NDArray[Any], names: Sequence[str]) -> NDArray[np.float32]:
    """Rows divided by their length, (n, D) float32.

    Raises:
        InputError: a row is zero, NaN or infinite (named by ``names``), or there is not one row per name.
    """
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise InputError(f"expected one vector for each of {len(names)} texts, got an array of shape {vectors.shape}")
    wide = np.asarray(vectors, np.float64)
    length = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
    if len(bad):
        raise InputError(f"{len(bad)} text vectors are zero, NaN or infinite; the first is that of {names[bad[0]]!r}")
    return (wide / length[:, None]).astype(np.float32)


class OpenClipTextEncoder:
    """The text half of a CLIP model of open_clip.

    Args:
        model: architecture in open_clip's words, see ``load_open_clip``.
        pretrained: tag of published weights, or the path of a checkpoint.
        device: "cpu", "cuda", ...
        clip: the same model, already loaded; a teacher that holds it anyway passes it on.

    Raises:
        MissingDependencyError, ConfigError, ModelError: see ``load_open_clip``.
    """

    def __init__(
        self, model: str, pretrained: str, device: str = "cpu", clip: nn.Module | None = None, batch_size: int = 256
    ) -> None:
        self.clip = clip if clip is not None else load_open_clip(model, pretrained, device)
        self.tokenizer = import_open_clip().get_tokenizer(model)
        self.model, self.pretrained, self.device, self.batch_size = model, pretrained, device, batch_size

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, D) float32, not normalised.

        Raises:
            ConfigError: a text is longer than the model reads (77 tokens for CLIP).
        """
        import torch

        tokens = self.tokenizer(list(texts))  # (n, context)
        self._refuse_long(texts, tokens)
        encode_text: Any = self.clip.encode_text  # open_clip has no types
        with torch.inference_mode():
            parts = [encode_text(part.to(self.device)).float().cpu() for part in tokens.split(self.batch_size)]
        return torch.cat(parts).numpy()

    def describe(self) -> dict[str, Any]:
        """Model, weights as given, activation, and a fingerprint of the parameters themselves."""
        return {
            "encoder": "open_clip",
            "model": self.model,
            "pretrained": self.pretrained,
            "activation": activation_of(self.clip),
            "weights_sha256": fingerprint_weights(self.clip),
        }

    def _refuse_long(self, texts: Sequence[str], tokens: Any) -> None:
        """The tokenizer cuts silently; a row without padding at its end was cut or has not one token to spare."""
        if type(self.tokenizer).__name__ != "SimpleTokenizer":
            return
        full = (tokens[:, -1] != 0).nonzero().flatten().tolist()
        if full:
            limit = tokens.shape[1] - 1
            raise ConfigError(f"text {texts[full[0]]!r} fills the {limit} tokens that {self.model} reads; shorten it")


def fingerprint_weights(clip: nn.Module) -> str:
    """sha256 over names, shapes and values of all parameters and buffers outside the image half."""
    digest = hashlib.sha256()
    for name, tensor in sorted(clip.state_dict().items()):
        if not name.startswith("visual."):
            array = tensor.detach().float().cpu().contiguous().numpy()
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
