"""Training of the example: shapes, pictures, the autoencoder, the diffusion, figures."""
