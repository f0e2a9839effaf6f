"""Networks and tokenizers of the transformers library, from its hub or a folder, with errors that say the remedy."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

INSTALL = "pip install 'transformers>=5'"


def load_network(class_name: str, model_types: tuple[str, ...], source: str, device: Any) -> Any:
    """A network in evaluation mode, float32, without gradients, every parameter from the checkpoint.

    Args:
        class_name: of the transformers library ("Sam3Model").
        model_types: of the configurations that the class reads ("sam3").
        source: name on the hub ("facebook/sam3"), downloaded once to its cache, or a folder of ``save_pretrained``.
        device: torch device.

    Raises:
        MissingDependencyError: transformers is not installed or too old for the class.
        ModelError: no such checkpoint, no access, a damaged one, or one of another architecture.
    """
    network_class = _class(class_name)
    try:
        found = _class("AutoConfig").from_pretrained(source).model_type
        if found not in model_types:
            raise ModelError(f"checkpoint {source!r} is a {found}, {class_name} needs a {' or '.join(model_types)}")
        network, report = network_class.from_pretrained(source, output_loading_info=True)
    except ModelError:
        raise
    except Exception as error:  # the hub, safetensors, the file system and the configuration have their own errors
        raise _not_loaded(f"{class_name} from {source!r}", source, error) from error
    unfit = [*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])]
    if unfit:
        near = ", ".join(sorted(unfit)[:3])
        raise ModelError(
            f"checkpoint {source!r} is not one of {class_name}: {len(unfit)} parameters are missing or have another "
            f"shape ({near}, ...) and would be random; choose the checkpoint that the class was published with"
        )
    return network.to(device).eval().requires_grad_(False)


def load_tokenizer(source: str) -> Any:
    """The tokenizer beside a network.

    Raises:
        MissingDependencyError: transformers is not installed.
        ModelError: there is none, or it is damaged.
    """
    try:
        return _class("AutoTokenizer").from_pretrained(source)
    except Exception as error:
        if isinstance(error, MissingDependencyError):
            raise
        raise _not_loaded(f"tokenizer from {source!r}", source, error) from error


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask of real tokens, (n, length) int64 each.

    Raises:
        ConfigError: a text has more tokens than fit; it is never cut.
    """
    counts = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
    if max(counts) > length:
        longest = texts[int(np.argmax(counts))]
        raise ConfigError(f"text {longest!r} has {max(counts)} tokens, the network reads {length}; shorten it")
    tokens = tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]


def squash_image(
    image: NDArray[np.uint8], size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """(H, W, 3) uint8 RGB to (1, 3, h, w) float32: resized without keeping the aspect (bilinear, antialiased)."""
    import torch

    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(resized, np.float32) / np.float32(255.0))
    return ((values - torch.tensor(mean)) / torch.tensor(std)).permute(2, 0, 1)[None]


def _class(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers", INSTALL, f"The network {name}") from error
    found = getattr(transformers, name, None)
    if found is None:
        raise MissingDependencyError("transformers (newer)", INSTALL, f"{name}, unknown to {transformers.__version__},")
    return found


def _not_loaded(what: str, source: str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    folder = Path(source).expanduser()
    if folder.is_dir():
        remedy = (
            f"the folder must hold what save_pretrained writes, it holds {sorted(p.name for p in folder.iterdir())}"
        )
    elif near := difflib.get_close_matches(folder.name, _folders(folder.parent), n=1):
        remedy = f"no such folder; did you mean {folder.parent / near[0]}?"
    else:
        remedy = (
            "without a network give a folder with the downloaded checkpoint; for one that needs a licence, accept it "
            "on its page and log in (hf auth login)"
        )
    return ModelError(f"{what} could not be loaded ({reason}); {remedy}")


def _folders(parent: Path) -> list[str]:
    return [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() and parent != Path(".") else []
