"""Types of arguments that several commands of speech share."""

from typing import Annotated

import typer

Task = Annotated[str, typer.Argument(help="enhance, separate or voice.")]
