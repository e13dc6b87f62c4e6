"""The researcher's laptop: several hospitals in one process, running the code that real hospitals run."""
