"""What can be run: a checkpoint's name becomes checked directories on this machine.

A checkpoint is whole weights, or a LoRA adapter and its base. Running it is left to ``backends``.
"""
