"""From results to a static leaderboard. Knows nothing of models or grading."""
