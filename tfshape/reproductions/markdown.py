"""Tables of reproductions, as Markdown."""

from __future__ import annotations


def markdown(frame):
    """A pandas.DataFrame as a Markdown table, its index left out."""

    def line(cells):
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(frame.columns), "|" + "---|" * frame.shape[1], *map(line, frame.itertuples(index=False))])
