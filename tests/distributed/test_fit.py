"""Ray Train, real: what a worker must not go on after reaches the door as it was raised, and once."""

from pathlib import Path

import pytest
import ray

from rlhf_ray.alarm import Alarm, Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.distributed.fit import fit
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.savepoints import Savepoints

ONE_THREAD = RunConfig.model_validate({"cluster": {"threads_each": 1}})


@pytest.fixture(scope="module", autouse=True)
def ray_ends():
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    "mistake",
    [BadInput("lora.targets: expected others"), Tripped(Alarm("loss", "it is nan", "a large step", "a smaller one"))],
    ids=["bad input", "tripped"],
)
def test_a_mistake_inside_the_training_is_raised_as_it_is(tmp_path: Path, mistake: Exception) -> None:
    calls = tmp_path / "calls"

    def work(folder: str, savepoints: Savepoints) -> None:
        with open(calls, "a", encoding="utf-8") as file:
            file.write("called\n")
        raise mistake

    place = tmp_path / "stage"
    place.mkdir()
    with pytest.raises(type(mistake)) as raised:
        fit(work, {}, ONE_THREAD, place)
    assert str(raised.value) == str(mistake)
    assert calls.read_text(encoding="utf-8") == "called\n"
    assert not any(path.is_file() for path in tmp_path.rglob("*") if path != calls)


def test_what_the_work_writes_comes_to_the_folder(tmp_path: Path) -> None:
    def work(text: str, folder: str, savepoints: Savepoints) -> None:
        Path(folder, "model").write_text(text, encoding="utf-8")

    folder = tmp_path / "stage"
    fit(work, {"text": "weights"}, ONE_THREAD, folder)
    assert [path.name for path in folder.iterdir()] == ["model"]
    assert (folder / "model").read_text(encoding="utf-8") == "weights"
