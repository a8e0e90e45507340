"""Small things to evaluate offline: original problems and a model that a package ships."""
