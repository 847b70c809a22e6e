"""The friendly way in: pictures, numbers and a seed, by a form or JSON; a file or JSON back."""
