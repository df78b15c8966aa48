"""RankSEG where people already work: one module per framework.

Import the module of your framework, for example ``from rankseg_integrations.torch import
RankSEGHead``. Importing this package loads no framework but PyTorch.
"""
