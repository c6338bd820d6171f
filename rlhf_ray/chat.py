"""Conversations as tokens: a chat template speaks in special tokens, and nobody else does.

The template is rendered with numbers in the place of what people wrote, and cut at its own special tokens. Only then
people's words are put between them, so whatever these look like, they are read as the characters they are made of.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from rlhf_ray.config import BadInput

if TYPE_CHECKING:  # it takes seconds to import, and those that only write conversations down need none of it
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]
Stretch = tuple[str | int, ...]  # the template's own text, and numbers of messages
MESSAGE = "\u2983{}\u2984"  # what stands for a message while a template is rendered: no template writes it
OPENING = '[{"role": '  # how a conversation begins where it is written as one text


def plain_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text. What looks like a special token is read as the characters it is made of."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """The tokens of all that comes before an answer: through the chat template, if there is one.

    Raises BadInput where the template takes no such conversation.
    """
    return chat_ids(tokenizer, messages_of(prompt)) if tokenizer.chat_template else plain_ids(tokenizer, prompt)


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """The tokens of a conversation up to where the assistant begins. A template that trims messages does not here.

    Raises BadInput where the tokenizer has no template, or one that takes no such roles.
    """
    form = _form(tokenizer, str(tokenizer.chat_template), tuple(message["role"] for message in messages))
    return form.ids(tokenizer, [message["content"] for message in messages])


def check_roles(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> None:
    """Raises BadInput where the chat template takes no messages in these roles."""
    _form(tokenizer, str(tokenizer.chat_template), tuple(message["role"] for message in messages))


def messages_of(prompt: str) -> Messages:
    """A conversation that `as_prompt` has written; any other text is what one user says."""
    if prompt.startswith(OPENING):
        try:
            found = json.loads(prompt)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and all(map(_is_message, found)):
            return found
    return [{"role": "user", "content": prompt}]


def as_prompt(messages: Messages) -> str:
    """A conversation as one text: the only message of a user as it is, all others as JSON."""
    alone = messages[0]["content"] if len(messages) == 1 and messages[0]["role"] == "user" else None
    if alone is not None and messages_of(alone) == messages:
        return alone
    return json.dumps(
        [{name: message[name] for name in ("role", "content")} for message in messages], ensure_ascii=False
    )


def prompt_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The prompt of these tokens. Of a conversation of several messages it is all that the template wrote."""
    text = tokenizer.decode(ids)
    if not tokenizer.chat_template:
        return text
    around = _form(tokenizer, str(tokenizer.chat_template), ("user",)).rendered.split(MESSAGE.format(0))
    said = text.removeprefix(around[0]).removesuffix(around[-1])
    return said if prompt_ids(tokenizer, said) == ids else text


@dataclass(frozen=True)
class _Form:
    """What a template makes of messages in these roles: stretches of text, with a special token before all but one."""

    rendered: str
    first: Stretch
    rest: tuple[tuple[int, Stretch], ...]

    def ids(self, tokenizer: PreTrainedTokenizerBase, contents: list[str]) -> list[int]:
        ids = self._plain(tokenizer, self.first, contents)
        for special, stretch in self.rest:
            ids += [special, *self._plain(tokenizer, stretch, contents)]
        return ids

    @staticmethod
    def _plain(tokenizer: PreTrainedTokenizerBase, stretch: Stretch, contents: list[str]) -> list[int]:
        text = "".join(contents[part] if isinstance(part, int) else part for part in stretch)
        return plain_ids(tokenizer, text) if text else []


@lru_cache(maxsize=256)
def _form(tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...]) -> _Form:
    """Raises BadInput where the template has no form for the roles, or one whose tokens are not those of its parts."""
    marks = [MESSAGE.format(number) for number in range(len(roles))]
    messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
    try:
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ValueError) as error:
        said = str(error).strip()[:80]
        raise BadInput(f"expected messages that the chat template takes, got {', '.join(roles)} ({said})") from None
    special = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    first, *rest = re.split(f"({pattern})", rendered) if pattern else [rendered]
    form = _Form(
        rendered,
        _stretch(first),
        tuple((special[token], _stretch(text)) for token, text in zip(rest[::2], rest[1::2], strict=True)),
    )
    if form.ids(tokenizer, marks) != tokenizer(rendered, add_special_tokens=False)["input_ids"]:
        raise BadInput(
            "expected a chat template whose special tokens stand between texts that are read alone, got another; take "
            "the template out of the tokenizer to train on plain prompts"
        )
    return form


def _stretch(text: str) -> Stretch:
    parts = re.split(MESSAGE.format(r"(\d+)"), text)  # every second one is a number
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts))


def _is_message(found: object) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(name), str) for name in ("role", "content"))
