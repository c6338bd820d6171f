"""The forms in which feedback comes, told by the columns of a record, each made one flat row."""

import math
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from typing import Any

from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.judgement import Unusable

EXPECTED = (
    "prompt, completion, label (thumbs); prompt, chosen, rejected (pairs); prompt, completion, rating; dialogues as "
    "chosen, rejected; or an export of open-webui or Label Studio"
)
RATERS = ("rater", "user", "user_id", "annotator", "annotator_id", "completed_by", "worker", "worker_id")
TIMES = ("created_at", "timestamp")
COMPLETIONS = ("completion", "response", "answer", "output")  # what projects in Label Studio call it
SIDES = (("answer1", "answer2"), ("response1", "response2"), ("text1", "text2"), ("left", "right"))


def separate(record: Any) -> list[Any]:
    """One record a judgement: a task of Label Studio may hold what several people said."""
    if isinstance(record, dict) and isinstance(record.get("annotations"), list) and len(record["annotations"]) > 1:
        return [record | {"annotations": [annotation]} for annotation in record["annotations"]]
    return [record]


def flat(record: Any) -> Row:
    """The parts of a judgement under their own names. Raises Unusable where it has no known form."""
    if not isinstance(record, dict):
        raise Unusable(f"expected keys and values, got {ascii(record)[:60]}")
    if None in record:  # where csv puts the cells that have no column
        raise Unusable(f"expected a cell a column, got {len(record[None])} more")
    for is_there in (_is_given, lambda value: True):  # a table may have columns for more than one form
        for column, make in FORMS.items():
            if column in record and is_there(record[column]):
                return make(record)
    raise Unusable(f"expected the columns {EXPECTED}, got {', '.join(map(str, record))[:200] or 'none'}")


def asked(record: Any) -> Row:
    """The prompt alone, of a table of prompts. Raises Unusable."""
    if not isinstance(record, dict) or "prompt" not in record:
        raise Unusable(f"expected the column prompt, got {ascii(record)[:60]}")
    return {"prompt": record["prompt"]}


def _plain(*names: str) -> Callable[[Row], Row]:
    return lambda record: {name: record.get(name) for name in ("prompt", *names)} | _origin(record)


def _open_webui(record: Row) -> Row:
    """A feedback of open-webui: the rated message is the completion, what led to it the prompt."""
    data, meta, snapshot = (_part(record, name) for name in ("data", "meta", "snapshot"))
    chat = _part(snapshot, "chat")
    chat = chat["chat"] if isinstance(chat.get("chat"), dict) else chat
    messages = chat["history"].get("messages") if isinstance(chat.get("history"), dict) else chat.get("messages")
    if isinstance(messages, list):
        found = (message for message in messages if isinstance(message, dict))
        messages = {message["id"]: message for message in found if isinstance(message.get("id"), Hashable)}
    thread = list(_thread(messages, meta.get("message_id"))) if isinstance(messages, dict) else []
    if not thread:
        raise Unusable("meta.message_id: expected a message of the snapshot, got none")
    *before, rated = reversed(thread)
    if not isinstance(rated.get("content"), str):
        raise Unusable(f"completion: expected a text, got {ascii(rated.get('content'))[:60]}")
    said = {"prompt": before, "completion": rated["content"], "label": data.get("rating")}
    return said | _origin(record)


def _thread(messages: dict[Any, Any], key: Any) -> Iterator[Row]:
    """The message of that id, the one before it, and so on to the first."""
    seen: set[Any] = set()
    while isinstance(key, Hashable) and key not in seen and isinstance(message := messages.get(key), dict):
        seen.add(key)
        yield message
        key = message.get("parentId")


def _label_studio(record: Row) -> Row:
    """An annotated task of Label Studio: its choice, its stars, or which of two answers was selected."""
    data = _part(record, "data")
    if not record["annotations"]:
        raise Unusable("annotations: expected one, got none")
    annotation = _part({"annotations": record["annotations"][0]}, "annotations")
    if annotation.get("was_cancelled"):
        raise Unusable("annotations: expected an answer, got a task that was skipped")
    origin = _origin(annotation)
    for result in _list(annotation.get("result")):
        if isinstance(result, dict) and isinstance(value := result.get("value"), dict):
            if result.get("type") == "pairwise":
                return _selected(data, result, value.get("selected")) | origin
            if result.get("type") == "rating":
                return _answer(data) | {"rating": value.get("rating")} | origin
            if result.get("type") == "choices":
                return _answer(data) | {"label": _only(value.get("choices"))} | origin
    raise Unusable("annotations: expected a result of the type choices, rating or pairwise, got none")


def _answer(data: Row) -> Row:
    completion = next((data[name] for name in COMPLETIONS if name in data), None)
    return {"prompt": data.get("prompt"), "completion": completion}


def _selected(data: Row, result: Row, selected: Any) -> Row:
    """The tag's to_name says which columns stood left and right, where they are called as what showed them."""
    shown = result.get("to_name")
    named = tuple(part.strip() for part in (shown.split(",") if isinstance(shown, str) else map(str, _list(shown))))
    sides = next((pair for pair in (named, *SIDES) if len(pair) == 2 and set(pair) <= set(data)), None)
    if sides is None:
        raise Unusable("data: expected two answers (answer1, answer2, or as to_name has them), got none")
    if selected not in ("left", "right"):
        raise Unusable(f"selected: expected left or right, got {ascii(selected)[:60]}")
    left, right = (data[side] for side in sides)
    chosen, rejected = (left, right) if selected == "left" else (right, left)
    return {"prompt": data.get("prompt"), "chosen": chosen, "rejected": rejected}


def _only(choices: Any) -> Any:
    """The one choice; of several nobody knows which one counts, so they stay what they are: no label."""
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else choices


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _part(record: Row, name: str) -> Row:
    value = record.get(name)
    if not isinstance(value, dict):
        raise Unusable(f"{name}: expected keys and values, got {ascii(value)[:60]}")
    return value


def _origin(record: Row) -> Row:
    """Who said it and when, as texts, where a record knows."""
    rater = next((record[name] for name in RATERS if _is_given(record.get(name))), None)
    if isinstance(rater, dict):
        rater = next((rater[name] for name in ("email", "name", "id") if _is_given(rater.get(name))), None)
    time = next((record[name] for name in TIMES if _is_given(record.get(name))), None)
    return {"rater": None if rater is None else str(rater), "created_at": _time(time)}


def _time(value: Any) -> str | None:
    """A time as text; a number of seconds in the usual writing."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int | float) and 0 < value < 1e11:
        return datetime.fromtimestamp(value, UTC).isoformat()
    return None if value is None else str(value)


def _is_given(value: Any) -> bool:
    """Not what a table has where a cell is empty; in one that pandas wrote as JSON that may be NaN."""
    return value is not None and value != "" and not (isinstance(value, float) and math.isnan(value))


# The column that tells each form, in the order in which they are looked for.
FORMS: dict[str, Callable[[Row], Row]] = {
    "snapshot": _open_webui,
    "annotations": _label_studio,
    "chosen": _plain("chosen", "rejected", "margin"),
    "label": _plain("completion", "label"),
    "rating": _plain("completion", "rating"),
}
