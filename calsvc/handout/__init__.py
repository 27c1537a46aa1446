"""All that is known of a handout's form: which files it has, how its train.py is run, how its artefact is opened."""
