"""Few small files of cryptography, each with its safety comment."""
