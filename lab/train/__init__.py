"""The recipes of the models in the zoo: each is a function that can be stopped at any time and resumed by the same call."""
