"""Where Ray lives: groups of actors that look like one worker, the team they form, and training under Ray Train."""

import os

# Before the first `import ray`: it reads these once. The print patch makes `datasets` dump bytecode into the log;
# the uv hook makes workers hang when the driver runs under `uv run`. Who sees GPUs `connection.environment` says.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
