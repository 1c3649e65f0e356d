"""The command line of AWS, as its own program starts it."""
import sys

from awscli.clidriver import main

sys.exit(main())
