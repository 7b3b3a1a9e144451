"""Run the command line as `python -m efficientformer_edu.cli`."""

from efficientformer_edu.cli import main

main()
