"""Conversations as texts: lists of messages, and dialogues of the hh-rlhf kind."""

import re
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_ray.chat import Messages, as_prompt, check_roles
from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.judgement import Unusable, text

ANSWER = "\n\nAssistant:"  # where a turn of the assistant begins in a dialogue that is one text
SPEAKERS = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(rf"\n\n({'|'.join(SPEAKERS)}):")


def as_text(row: Row, tokenizer: PreTrainedTokenizerBase | None) -> Row:
    """The row with texts where conversations stood; texts stay what they are.

    Raises Unusable, and BadInput where a conversation is given and there is no tokenizer with a chat template.
    """
    if isinstance(row.get("chosen"), list) and isinstance(row.get("rejected"), list):
        return row | _pair_of_conversations(row, tokenizer)
    if "chosen" in row and row.get("prompt") is None:
        return row | _pair_of_dialogues(row, tokenizer)
    if not isinstance(row.get("prompt"), list):
        return row
    asked = _messages(row["prompt"], "prompt")
    if not isinstance(row.get("completion"), list):  # a thread with the text of an answer
        alone = len(asked) == 1 and not _template(tokenizer)
        return row | {"prompt": asked[0]["content"] if alone else _written(asked, tokenizer)}
    _demand_template(tokenizer)
    before, answer = _last_answer(asked + _messages(row["completion"], "completion"), "completion")
    if before != asked:
        raise Unusable("completion: expected one message of the assistant, got several")
    return row | {"prompt": _written(before, tokenizer), "completion": answer}


def split_dialogues(chosen: Any, rejected: Any) -> Row:
    """`prompt, chosen, rejected` of two dialogues: the prompt ends behind the last assistant's turn that both begin."""
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise Unusable("chosen, rejected: expected two texts, got something else")
    differs = (place for place, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other)
    place = chosen.rfind(ANSWER, 0, next(differs, min(len(chosen), len(rejected))))
    if place < 0:
        raise Unusable(f"prompt: expected one, or dialogues that both hold the same {ANSWER!r}, got neither")
    cut = place + len(ANSWER)
    return {"prompt": chosen[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}


def _pair_of_dialogues(row: Row, tokenizer: PreTrainedTokenizerBase | None) -> Row:
    """Where there is a chat template, the turns of what both share are its messages."""
    pair = split_dialogues(row.get("chosen"), row.get("rejected"))
    before, *turns = TURN.split(pair["prompt"])
    if not _template(tokenizer) or before.strip():
        return pair
    said = zip(turns[::2], turns[1::2], strict=True)
    messages = [{"role": SPEAKERS[who], "content": what.strip()} for who, what in said]
    return {side: pair[side].strip() for side in ("chosen", "rejected")} | {
        "prompt": _written(messages[:-1], tokenizer)
    }


def _pair_of_conversations(row: Row, tokenizer: PreTrainedTokenizerBase | None) -> Row:
    _demand_template(tokenizer)
    sides = {name: _messages(row[name], name) for name in ("chosen", "rejected")}
    before = _opening(row.get("prompt"), sides["chosen"])
    whole = {name: _last_answer(before + messages, name) for name, messages in sides.items()}
    (asked, chosen), (asked_too, rejected) = whole["chosen"], whole["rejected"]
    if asked != asked_too:
        raise Unusable("chosen, rejected: expected conversations that differ in the last message, got others")
    return {"prompt": _written(asked, tokenizer), "chosen": chosen, "rejected": rejected}


def _opening(prompt: Any, chosen: Messages) -> Messages:
    """What comes before the messages of a pair. Some tables repeat in them what a plain prompt says already."""
    if isinstance(prompt, list):
        return _messages(prompt, "prompt")
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) and len(chosen) == 1 else []


def _last_answer(messages: Messages, name: str) -> tuple[Messages, str]:
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise Unusable(f"{name}: expected a conversation that ends with the assistant, got another")
    return messages[:-1], messages[-1]["content"]


def _messages(value: list[Any], name: str) -> Messages:
    for message in value:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise Unusable(f"{name}: expected messages with the texts role and content, got {ascii(message)[:60]}")
        text(message, "content", may_be_empty=True)
    return [{key: message[key] for key in ("role", "content")} for message in value]


def _template(tokenizer: PreTrainedTokenizerBase | None) -> Any:
    return None if tokenizer is None else tokenizer.chat_template


def _demand_template(tokenizer: PreTrainedTokenizerBase | None) -> None:
    if not _template(tokenizer):
        raise BadInput("expected plain texts, since the base's tokenizer has no chat template, got conversations")


def _written(messages: Messages, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """The messages as one prompt. Raises Unusable where the template, through which all of it goes, takes no such."""
    if not messages:
        raise Unusable("prompt: expected messages, got none")
    if tokenizer is None or not tokenizer.chat_template:
        raise Unusable(
            f"prompt: expected one message, since the base's tokenizer has no chat template, got {len(messages)}"
        )
    try:
        check_roles(tokenizer, messages)
    except BadInput as mistake:
        raise Unusable(f"prompt: {mistake}") from None
    return as_prompt(messages)
