"""The whole loop: from thumbs to a generator that is measurably better, and the report that shows it."""

from rlhf_ray.summary import conclude

from jobs import collect_thumbs, evaluate, synthesize, train_ppo, train_reward, train_sft
from jobs.door import perform

STAGES = [job.STAGE for job in (synthesize, train_sft, collect_thumbs, train_reward, train_ppo, evaluate)]

if __name__ == "__main__":
    perform(STAGES, after=conclude)
