"""The reward model's training: its losses, what it learns, and that neither a look nor a kill changes its bits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from rlhf_ray.config import BadInput, check
from rlhf_ray.data.tables import Row
from rlhf_ray.models.adapters import Lora
from rlhf_ray.models.loading import load_classifier, load_tokenizer
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.text import as_completions
from rlhf_ray.training.preferences import PreferenceTrainer, as_items, collate
from rlhf_ray.training.reward import RECORD, RewardTraining, raw_scores, train_reward
from rlhf_ray.training.savepoints import OnDisk

MOST = 64
GOOD, BAD = "quick brown fox", "lazy dog"
ENDS = ["", " jumps", " over", " my box", " daft zebras jump", " five dozen liquor jugs", " how", " pack"]
THUMBS: list[Row] = [
    {"prompt": prompt, "completion": text + end, "label": text == GOOD, "rater": "ann"}
    for prompt in ("the", "how vexingly")
    for end in ENDS
    for text in (GOOD, BAD)
]
PAIRS: list[Row] = [
    {"prompt": prompt, "chosen": begin + " with my box", "rejected": begin + " over the dog.", "margin": 0.0}
    for prompt in ("pack", "how vexingly")
    for begin in ("jumps", "five dozen", "zebras", "liquor", "vex", "brown", "pack my", "the jugs")
]
CPU = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none", "disable_tqdm": True}


def training(**more: Any) -> RewardTraining:
    return RewardTraining(**{"epochs": 2, "batch": 8, "lr": 1e-3, "most_tokens": MOST} | more)


def trained(
    folder: Path, backbone: str, thumbs: list[Row], pairs: list[Row], lora: Lora | None = None, **more: Any
) -> tuple[Scalar, dict[str, torch.Tensor]]:
    """The model that the training left in the folder, and its weights."""
    hooks = {name: more.pop(name) for name in ("examine", "examine_every", "savepoints", "report") if name in more}
    train_reward(
        backbone=backbone,
        thumbs=thumbs,
        pairs=pairs,
        samples=THUMBS[:6],
        training=training(**more),
        lora=lora,
        seed=3,
        folder=str(folder),
        **{"report": lambda step, of, metrics: None} | hooks,
    )
    scalar = Scalar.load(str(folder))
    return scalar, scalar.classifier.state_dict()


def trainer_of(backbone: str, thumbs: list[Row], pairs: list[Row], folder: Path, **more: Any) -> PreferenceTrainer:
    chosen = training(**more)
    tokenizer = load_tokenizer(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        scalar = Scalar(load_classifier(backbone))
    items = as_items(tokenizer, thumbs, [1.0] * len(thumbs), pairs, chosen.margin, MOST)
    arguments = RewardConfig(str(folder), max_length=None, remove_unused_columns=False, seed=3, **CPU)
    return PreferenceTrainer(scalar, tokenizer, items, chosen.label_smoothing, arguments, callbacks=[])


def loss_of(trainer: PreferenceTrainer, rows: list[Row] | None = None) -> float:
    """The loss of one batch of all its items, or of the given ones."""
    trainer.model.eval()
    batch = collate(rows or list(trainer.train_dataset), trainer.processing_class.pad_token_id)
    return trainer.compute_loss(trainer.model, batch).item()


# What is minimised.


def test_with_pairs_alone_the_loss_is_that_of_trl(policy_folder: str, tmp_path: Path) -> None:
    """TRL's own trainer on its own classifier, which reads the right token where padding is a token of its own."""
    pairs = [pair | {"margin": number / 4} for number, pair in enumerate(PAIRS)]
    ours = trainer_of(policy_folder, [], pairs, tmp_path, margin=2.0)
    classifier = AutoModelForSequenceClassification.from_pretrained(policy_folder, num_labels=1, dtype=torch.float32)
    classifier.load_state_dict(ours.model.scalar.classifier.state_dict())
    columns = ("chosen_ids", "rejected_ids", "margin")
    rows = [{name: item[name] for name in columns} for item in ours.train_dataset]
    theirs = RewardTrainer(
        classifier,
        RewardConfig(str(tmp_path), max_length=None, **CPU),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(policy_folder),
    )
    classifier.eval()
    assert loss_of(ours) == pytest.approx(theirs.compute_loss(classifier, theirs.data_collator(rows)).item(), rel=1e-5)


def test_a_batchs_loss_is_the_mean_over_its_thumbs_and_pairs(policy_folder: str, tmp_path: Path) -> None:
    trainer = trainer_of(policy_folder, THUMBS[:6], PAIRS[:3], tmp_path)
    items = list(trainer.train_dataset)
    alone = [loss_of(trainer, [item]) for item in items]
    assert len(set(alone)) == len(items)
    assert loss_of(trainer) == pytest.approx(sum(alone) / len(items), rel=1e-5)
    assert loss_of(trainer, items[::-1]) == pytest.approx(loss_of(trainer), rel=1e-5)


def test_a_pair_beside_thumbs_has_the_loss_that_it_has_alone(policy_folder: str, tmp_path: Path) -> None:
    pairs = [pair | {"margin": 1.5} for pair in PAIRS[:4]]
    alone, beside = (trainer_of(policy_folder, thumbs, pairs, tmp_path) for thumbs in ([], THUMBS[:2]))
    assert loss_of(beside, list(beside.train_dataset)[2:]) == pytest.approx(loss_of(alone), rel=1e-6)


def test_a_margin_of_0_is_none_and_a_larger_one_asks_for_more(policy_folder: str, tmp_path: Path) -> None:
    rated = [pair | {"margin": 2.0} for pair in PAIRS]
    plain = loss_of(trainer_of(policy_folder, [], PAIRS, tmp_path))
    assert loss_of(trainer_of(policy_folder, [], rated, tmp_path, margin=0.0)) == plain
    assert loss_of(trainer_of(policy_folder, [], rated, tmp_path, margin=0.5)) > plain


def test_smoothing_mixes_in_the_loss_of_the_other_label(policy_folder: str, tmp_path: Path) -> None:
    flipped = [thumb | {"label": not thumb["label"]} for thumb in THUMBS]
    right, wrong = (loss_of(trainer_of(policy_folder, thumbs, [], tmp_path)) for thumbs in (THUMBS, flipped))
    smooth = loss_of(trainer_of(policy_folder, THUMBS, [], tmp_path, label_smoothing=0.2))
    assert loss_of(trainer_of(policy_folder, THUMBS, [], tmp_path, label_smoothing=0.0)) == right
    assert smooth == pytest.approx(0.8 * right + 0.2 * wrong, rel=1e-5)


def test_what_is_trained_is_what_is_scored(each_folder: str, tmp_path: Path) -> None:
    """Also where end-of-text pads: each text is read at its own end-of-text token, not one before it."""
    trainer = trainer_of(each_folder, THUMBS, [], tmp_path)
    trainer.model.eval()
    batch = collate(list(trainer.train_dataset), trainer.processing_class.pad_token_id)
    assert not batch["attention_mask"].all()
    logits = trainer.model(batch["input_ids"], batch["attention_mask"]).logits[:, 0]
    scored = raw_scores(trainer.model.scalar, trainer.processing_class, THUMBS, MOST)
    torch.testing.assert_close(logits, scored)


# What is learned.


LEARNING = {"epochs": 2, "lr": 1e-2, "batch": 4}


@pytest.mark.parametrize("lora", [None, Lora()], ids=["all", "lora"])
@pytest.mark.parametrize("taught", ["thumbs", "pairs", "both"])
def test_two_epochs_teach_what_people_like(
    taught: str, lora: Lora | None, eos_padded_folder: str, tmp_path: Path
) -> None:
    """Thumbs tell the one word from the other, pairs the one end from the other; who reads both learns both."""
    thumbs, pairs = THUMBS if taught != "pairs" else [], PAIRS if taught != "thumbs" else []
    scalar, _ = trained(tmp_path, eos_padded_folder, thumbs, pairs, lora, **LEARNING)
    tokenizer = load_tokenizer(str(tmp_path))
    if thumbs:
        right = (raw_scores(scalar, tokenizer, THUMBS, MOST) > 0) == torch.tensor([row["label"] for row in THUMBS])
        assert right.float().mean() >= 0.9
    if pairs:
        sides = (raw_scores(scalar, tokenizer, as_completions(PAIRS, side), MOST) for side in ("chosen", "rejected"))
        assert (torch.sub(*sides) > 0).float().mean() >= 0.9


def test_the_folder_holds_the_model_and_what_it_was_trained_with_and_nothing_else(
    policy_folder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    trained(folder, policy_folder, THUMBS, PAIRS, weigh_raters=True, savepoints=OnDisk(tmp_path / "scratch"))
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", RECORD}
    assert {path.name for path in folder.iterdir()} == files
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    assert (record["thumbs"], record["pairs"]) == (len(THUMBS), len(PAIRS))
    assert record["settings"]["weigh_raters"]
    assert record["rater_weights"] == {"ann": pytest.approx(1.0)}


def test_scores_are_normalised_on_the_samples_or_left_as_they_are(policy_folder: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(policy_folder)
    scalar, weights = trained(tmp_path / "normal", policy_folder, THUMBS, [])
    raw = raw_scores(scalar, tokenizer, THUMBS[:6], MOST)
    assert (scalar.mean, scalar.std) == (pytest.approx(raw.mean().item()), pytest.approx(raw.std().item()))
    scalar, same = trained(tmp_path / "plain", policy_folder, THUMBS, [], normalise="none")
    assert (scalar.mean, scalar.std) == (0.0, 1.0)
    assert all(torch.equal(weights[name], same[name]) for name in weights)


@pytest.mark.parametrize("label", [True, False])
def test_thumbs_of_one_kind_need_pairs(label: bool, policy_folder: str, tmp_path: Path) -> None:
    thumbs = [thumb for thumb in THUMBS if thumb["label"] == label]
    with pytest.raises(BadInput, match="expected both thumbs up and thumbs down, or pairs"):
        trained(tmp_path, policy_folder, thumbs, [])
    trained(tmp_path, policy_folder, thumbs, PAIRS, balance_labels=True, weigh_raters=True)


def test_nothing_to_learn_from_is_said(policy_folder: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected thumbs or pairs to learn from, got none"):
        trained(tmp_path, policy_folder, [], [])


def test_ten_rows_are_enough_to_begin_with(policy_folder: str, tmp_path: Path) -> None:
    one_down = [*THUMBS[0:18:2], THUMBS[1]]
    trained(tmp_path, policy_folder, one_down, [], batch=32, weigh_raters=True, balance_labels=True)
    trained(tmp_path, policy_folder, [], PAIRS[:1])


@pytest.mark.parametrize("mistake", [{"label_smoothing": 0.5}, {"margin": -1.0}, {"backbone": "other"}])
def test_a_setting_that_makes_no_sense_is_an_error(mistake: Row) -> None:
    with pytest.raises(BadInput, match=next(iter(mistake))):
        check(RewardTraining, mistake, "reward")


# What must not change the training.


class Killed(OnDisk):
    """Savepoints of a training that is killed right after it was saved so many times."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder)
        self.left = after

    def keep(self, checkpoint: Path) -> None:
        super().keep(checkpoint)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("lora", [None, Lora()], ids=["all", "lora"])
def test_killed_anywhere_it_ends_with_the_bits_of_an_undisturbed_training(
    lora: Lora | None, policy_folder: str, tmp_path: Path
) -> None:
    """Two epochs of five steps: it is saved after 2, 4, … steps, within an epoch, and after the last."""
    rows = THUMBS[:24], PAIRS[:16]
    _, undisturbed = trained(tmp_path / "undisturbed", policy_folder, *rows, lora)
    steps: list[int] = []
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "model", policy_folder, *rows, lora, savepoints=Killed(tmp_path / "scratch", after=1))
        steps += [int(path.name.partition("-")[2]) for path in (tmp_path / "scratch").glob("checkpoint-*")]
    assert steps == [2, 4, 6, 8, 10]
    _, resumed = trained(tmp_path / "model", policy_folder, *rows, lora, savepoints=OnDisk(tmp_path / "scratch"))
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_it_goes_on_at_the_end_of_an_epoch_too(policy_folder: str, tmp_path: Path) -> None:
    _, undisturbed = trained(tmp_path / "undisturbed", policy_folder, THUMBS, [], epochs=5)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "model", policy_folder, THUMBS, [], epochs=5, savepoints=Killed(tmp_path / "scratch", 1))
    _, resumed = trained(
        tmp_path / "model", policy_folder, THUMBS, [], epochs=5, savepoints=OnDisk(tmp_path / "scratch")
    )
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)


def test_a_savepoint_that_was_damaged_is_passed_over(policy_folder: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "model", policy_folder, THUMBS, [], savepoints=Killed(scratch, 1))
    newest = OnDisk(scratch).newest()
    assert newest is not None
    (newest / "optimizer.pt").write_bytes(b"")
    assert OnDisk(scratch).newest() is None


def test_a_look_changes_nothing(policy_folder: str, tmp_path: Path) -> None:
    looks: list[float] = []

    def examine(scalar: Scalar, tokenizer: Any) -> None:
        assert not scalar.training
        torch.rand(7)
        looks.append(raw_scores(scalar, tokenizer, THUMBS[:1], MOST).item())

    _, alone = trained(tmp_path / "alone", policy_folder, THUMBS, PAIRS)
    scalar, examined = trained(tmp_path / "examined", policy_folder, THUMBS, PAIRS, examine=examine, examine_every=0.5)
    assert all(torch.equal(alone[name], examined[name]) for name in alone)
    assert len(set(looks)) == len(looks) == 4
    assert looks[-1] == pytest.approx(raw_scores(scalar, load_tokenizer(policy_folder), THUMBS[:1], MOST).item())


def test_every_epoch_reads_all_items_in_an_order_of_its_own(policy_folder: str, tmp_path: Path) -> None:
    trainer = trainer_of(policy_folder, THUMBS, PAIRS, tmp_path)
    trainer.state.max_steps, trainer.args.num_train_epochs = 20, 2
    order_of: Callable[[], list[int]] = lambda: list(trainer._get_train_sampler())  # noqa: E731
    first, again = order_of(), order_of()
    trainer.state.global_step = 13
    second = order_of()
    assert first == again != second
    assert sorted(first) == sorted(second) == list(range(len(THUMBS) + len(PAIRS)))
