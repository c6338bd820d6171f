"""The live votes of a ledger in the forms that other tools read, with everything that is needed to bring them back.

What has no place in a form stands under `ledger`: facts of the completion, and of its votes by their ids.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row
from rlhf_ray.durable import write_whole
from rlhf_ray.feedback.entries import Completion
from rlhf_ray.feedback.reader import Reader

LEDGER = "ledger"
UP, DOWN = "👍", "👎"
TEXTS = ("prompt", "completion")


def export(folder: Path, file: Path, form: str) -> int:
    """Write the live votes of a ledger to a file of that form; how many they were. Raises BadInput."""
    if form not in FORMS:
        raise BadInput(f"form: expected one of {', '.join(FORMS)}, got {ascii(form)[:80]}")
    reader = Reader(folder)
    votes = reader.live_votes()
    given = reader.completions(vote["completion_id"] for vote in votes)
    write_whole(file, FORMS[form]([(vote, given[vote["completion_id"]]) for vote in votes]))
    return len(votes)


Voted = list[tuple[Row, Completion]]


def jsonl(voted: Voted) -> str:
    """A thumb a line: prompt, completion, label, rater, created_at."""
    return "".join(
        json.dumps(
            _texts(completion)
            | {"label": vote["label"], "rater": vote["person"], "created_at": vote["time"].isoformat()}
            | _ledger(completion, vote),
            ensure_ascii=False,
        )
        + "\n"
        for vote, completion in voted
    )


def label_studio(voted: Voted) -> str:
    """Tasks to import, one a completion, with an annotation a person.

    A ledger's people do not stand in `completed_by`: where they are no users of it, Label Studio would refuse the file.
    """
    votes_on: dict[str, list[Row]] = defaultdict(list)
    completions = {completion.completion_id: completion for _, completion in voted}
    for vote, completion in voted:
        votes_on[completion.completion_id].append(vote)
    tasks = [
        {
            "data": _texts(completions[name]) | _ledger(completions[name], *votes),
            "annotations": [_annotation(vote) for vote in votes],
        }
        for name, votes in ((name, _told_apart(votes)) for name, votes in votes_on.items())
    ]
    return json.dumps(tasks, ensure_ascii=False, indent=1)


def _told_apart(votes: list[Row]) -> list[Row]:
    """Votes on one completion. People choose the ids of their votes, and two may have chosen the same."""
    known: set[str] = set()
    apart = []
    for vote in votes:
        name = vote["vote_id"]
        if name in known:
            name = hashlib.blake2b(f"{name}\n{vote['person']}".encode(), digest_size=16).hexdigest()
        known.add(name)
        apart.append(vote | {"vote_id": name})
    return apart


def _annotation(vote: Row) -> Row:
    result: Row = {
        "id": vote["vote_id"],
        "from_name": "label",
        "to_name": "completion",
        "type": "choices",
        "value": {"choices": [UP if vote["label"] == 1 else DOWN]},
    }
    if vote["comment"]:
        result["meta"] = {"text": [vote["comment"]]}
    return {"annotator": vote["person"], "created_at": vote["time"].isoformat(), "result": [result]}


def open_webui(voted: Voted) -> str:
    """Feedbacks as *Admin Panel > Evaluations > Feedback > Export* gives them."""
    return json.dumps([_feedback(*pair) for pair in voted], ensure_ascii=False, indent=1)


def _feedback(vote: Row, completion: Completion) -> Row:
    asked, said, seconds = f"{completion.completion_id}-prompt", completion.completion_id, int(vote["time"].timestamp())
    messages = {
        asked: {"id": asked, "parentId": None, "childrenIds": [said], "role": "user", "content": completion.prompt},
        said: {"id": said, "parentId": asked, "childrenIds": [], "role": "assistant", "content": completion.completion},
    }
    return {
        "id": vote["vote_id"],
        "user_id": vote["person"],
        "version": 0,
        "type": "rating",
        "data": {"rating": vote["label"], "model_id": completion.model_version, "comment": vote["comment"] or ""},
        "meta": {"message_id": said, "chat_id": said, "model_id": completion.model_version} | _ledger(completion, vote),
        "snapshot": {"chat": {"chat": {"history": {"currentId": said, "messages": messages}}}},
        "created_at": seconds,
        "updated_at": seconds,
    }


def _texts(completion: Completion) -> Row:
    return {name: getattr(completion, name) for name in TEXTS}


def _ledger(completion: Completion, *votes: Row) -> dict[str, Any]:
    """All that the entries hold but the texts, which a form has in their own place."""
    given = completion.model_dump(mode="json", exclude={"kind", *TEXTS})
    facts = ("person", "label", "comment", "score", "probability", "judge")
    said = {
        vote["vote_id"]: {name: vote[name] for name in facts} | {"time": vote["time"].isoformat()} for vote in votes
    }
    return {LEDGER: {"given": given, "votes": said}}


FORMS: dict[str, Callable[[Voted], str]] = {"jsonl": jsonl, "label-studio": label_studio, "open-webui": open_webui}
