"""Stands for the compiler, which is a program of its own."""
