"""What reports in HTML have in common."""

import importlib.resources
import io

import jinja2
from matplotlib.figure import Figure


def rendered(package: str, name: str, **values: object) -> str:
    """A template of a package with its values, all of which are there and escaped.

    Args:
        package: that has the folder `templates`.
        name: of the template.
        values: what the template names.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = importlib.resources.files(package).joinpath("templates", name)
    return environment.from_string(source.read_text("utf-8")).render(**values)


def png(figure: Figure, resolution_dpi: int) -> bytes:
    """A figure as the content of a PNG file."""
    content = io.BytesIO()
    # Without the address of Matplotlib's site that it writes into its files.
    metadata = {"Software": None}
    figure.savefig(content, format="png", dpi=resolution_dpi, metadata=metadata)
    return content.getvalue()
