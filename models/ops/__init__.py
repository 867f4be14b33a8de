"""Operators of the encoder that plain PyTorch runs badly.

``convolution`` holds the local mixers (span-based dynamic and depthwise convolution) behind one
interface with several backends; ``attention`` attention with a bias or inside documents;
``masked_lm`` the loss and sampling over a large vocabulary.
"""
