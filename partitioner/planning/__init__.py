"""From program to plan: who runs which node, what is compiled as one, and in which order."""
