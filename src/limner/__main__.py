"""`python -m limner`, which is how `torchrun -m limner` starts it."""

import sys

from limner.cli import main

sys.exit(main())
