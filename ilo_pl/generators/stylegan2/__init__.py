"""StyleGAN2: the network, and the files that others keep it in."""
