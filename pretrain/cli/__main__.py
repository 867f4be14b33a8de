"""``python -m convbert.pretrain.cli``: the same as the command ``convbert``."""

import sys

from convbert.pretrain.cli import main

sys.exit(main())
