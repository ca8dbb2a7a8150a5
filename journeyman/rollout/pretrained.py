"""Models that exist already, as a folder."""

from pathlib import Path

from journeyman.config import PretrainedModel
from journeyman.errors import ConfigError
from journeyman.rollout.chat import CALLS


def copy_pretrained(config: PretrainedModel, folder: Path) -> None:
    """Write a model and its tokenizer, of a folder or the Hub, to a folder; the tokenizer keeps how calls are written.

    Raises `ConfigError` where it can't be loaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.path, revision=config.revision)
        model = AutoModelForCausalLM.from_pretrained(config.path, revision=config.revision, dtype="auto")
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the model can't be loaded: {reason}",
            place=f"model.path = {config.path}",
            remedy="give a folder in Hugging Face format, or a Hub name that this machine can reach",
        ) from error
    if config.calls != "auto":
        tokenizer.init_kwargs[CALLS] = config.calls  # goes along with the tokenizer, from policy to policy
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
