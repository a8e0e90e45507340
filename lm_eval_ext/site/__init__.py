"""Builds a static leaderboard from results. Does not depend on models or grading."""
