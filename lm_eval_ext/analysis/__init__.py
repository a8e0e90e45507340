"""From runs to comparisons: typed results, nothing drawn."""
