"""Inference: a model opened into a confined engine, answers sealed to the user, a receipt for each."""
