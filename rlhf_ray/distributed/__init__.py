"""Where Ray lives: groups of actors that look like one worker, the team they form, and training under Ray Train."""
