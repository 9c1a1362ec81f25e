"""What can be run: the name of a checkpoint becomes a checked directory on this machine.

That is whole weights, or a LoRA adapter and its base. Running it is left to ``backends``.
"""
