"""Few steps: a student of 4 or 5 evaluations learns from a teacher of 50, by trajectories, adversaries and distribution matching."""

from vidistill.distill.methods import METHODS, Batch, Method, Nets, Turn, generate, in_memory, roll_out
from vidistill.distill.nets import FlowNet, Heads, cast, initialise
from vidistill.distill.recipe import Recipe, changed, critic_updates, load_recipe, recipe_of, recipes, student_updates, turns
from vidistill.distill.trainer import Trainer, Update

__all__ = [
    "METHODS",
    "Batch",
    "FlowNet",
    "Heads",
    "Method",
    "Nets",
    "Recipe",
    "Trainer",
    "Turn",
    "Update",
    "cast",
    "changed",
    "critic_updates",
    "generate",
    "in_memory",
    "initialise",
    "load_recipe",
    "recipe_of",
    "recipes",
    "roll_out",
    "student_updates",
    "turns",
]
