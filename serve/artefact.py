"""A model that can be served: where it lies, and proof that it is what was trained."""

from dataclasses import dataclass
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.durable import is_whole, read_manifest
from rlhf_ray.evaluation.cards import CARD
from rlhf_ray.models.folder import fingerprint, resolve

TUNED, SFT, REWARD = "tuned", "sft", "reward"
PLACES = {TUNED: ("ppo", "policy"), SFT: ("sft",), REWARD: ("reward",)}  # of a run: a stage, and the model in it


@dataclass(frozen=True)
class Artefact:
    """`name` is what clients call it. `stage` is the folder of a run that holds it; None for a model from elsewhere."""

    name: str
    folder: str
    stage: str | None
    digest: str

    @property
    def version(self) -> str:
        return version_of(self.digest)

    def verify(self) -> None:
        """Raises BadInput where the files are no longer those that were named when the serving began."""
        if self.stage:
            check_stage(Path(self.stage))
        found = fingerprint(self.folder)
        if found != self.digest:
            raise BadInput(f"{self.folder}: expected files with the digest {self.digest}, got {found}")


def artefact(name: str, folder: str, stage: Path | None = None) -> Artefact:
    """The model in a folder, or of a hub's name. Raises BadInput where a run's stage is not as the run left it."""
    if stage:
        check_stage(stage)
    place = resolve(folder)
    return Artefact(name, place, str(stage.resolve()) if stage else None, fingerprint(place))


def artefact_of_run(run: Path, name: str) -> Artefact:
    """What a finished run left under that name. Raises BadInput where it is missing, or not as the run left it."""
    place = PLACES[name]
    return artefact(name, str(run.joinpath(*place)), stage=run / place[0])


def version_of(digest: str) -> str:
    """What people call the model of that digest."""
    return digest[:12]


def check_stage(stage: Path) -> None:
    read_manifest(stage)  # says what is missing
    if not is_whole(stage, unlisted=[CARD]):
        raise BadInput(f"{stage}: expected the files that the run left, got others (changed, damaged, more or fewer)")
