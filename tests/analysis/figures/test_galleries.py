"""Pictures side by side: how many rows, in which order, and between which limits they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from paretune.analysis.figures.galleries import pictures_figure


@pytest.mark.parametrize(("count", "columns", "panels"), [(1, 1, 1), (5, 2, 6), (6, 3, 6), (7, 3, 9)])
def test_pictures_fill_rows_in_their_order(count: int, columns: int, panels: int) -> None:
    pictures = {f"p{place}": np.full((2, 3), place / 10) for place in range(count)}
    figure = pictures_figure(pictures, columns=columns)
    assert len(figure.axes) == panels
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == list(pictures)
    for axes, picture in zip(drawn, pictures.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture)
        assert axes.images[0].get_clim() == (0.0, 1.0)


def test_a_centred_picture_spans_its_own_range_around_zero() -> None:
    pictures = {"a": np.array([[-3.0, 1.0]]), "b": np.array([[0.5, 0.0]]), "empty": np.zeros((1, 2))}
    figure = pictures_figure(pictures, columns=3, centred=True)
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(-3.0, 3.0), (-0.5, 0.5), (-1.0, 1.0)]
