"""`python -m spct COMMAND`, where the console command is not on the path."""

import sys

from spct.command import main

sys.exit(main())
