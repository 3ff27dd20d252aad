"""The torch package behind the book "From Autoencoders to Diffusion".

Import from the module that owns the name, for example `from companion.elbo import elbo_terms`.
"""

__version__ = "0.1.0"
