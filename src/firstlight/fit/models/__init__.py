"""Built-in models, one module for each family; `firstlight.fit.model.get_model` finds them by name.

A module is imported, and its kernels are compiled or loaded, when a model of it is asked for.
"""
