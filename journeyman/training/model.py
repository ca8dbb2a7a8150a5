"""Models on disk: the small one made from config, and the ones that exist."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journeyman.config import ModelConfig, PretrainedModel, ScratchModel
from journeyman.rollout.pretrained import copy_pretrained
from journeyman.training.tokenizer import END, PAD, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def make_base(
    config: ModelConfig,
    folder: Path,
    *,
    texts: Iterable[str],
    specs: Sequence[dict[str, Any]],
    phrases: Iterable[str],
    seed: int,
) -> None:
    """Write the untrained model and its tokenizer to a folder in the usual Hugging Face format."""
    if isinstance(config, PretrainedModel):
        return copy_pretrained(config, folder)
    tokenizer = train_tokenizer(texts, specs, phrases, vocabulary=config.vocabulary, max_length=config.max_length)
    tokenizer.save_pretrained(folder)
    _make_scratch(config, folder, tokenizer, seed)


def _make_scratch(config: ScratchModel, folder: Path, tokenizer: "PreTrainedTokenizerBase", seed: int) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    vocabulary = tokenizer.get_vocab()
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[PAD],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(shape)
    model.save_pretrained(folder)


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
