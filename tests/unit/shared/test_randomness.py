"""Generators depend on seed, site and round, and on nothing else."""

from shared.randomness import for_site, generator


def test_the_same_labels_draw_the_same_numbers() -> None:
    assert for_site(1, "a", 3).training.random() == for_site(1, "a", 3).training.random()


def test_seed_site_and_round_each_make_a_difference() -> None:
    drawn = {for_site(*label).training.random() for label in [(1, "a", 3), (2, "a", 3), (1, "b", 3), (1, "a", 4)]}
    assert len(drawn) == 4


def test_labels_are_not_glued_together() -> None:
    assert generator(1, "ab", "c").random() != generator(1, "a", "bc").random()
    assert generator(1, "1").random() != generator(1, 1).random()


def test_the_numbers_never_change() -> None:
    """Known answer: a resumed run on another day must draw what this one draws."""
    assert generator(7, "site", "a", 1).integers(0, 2**32, size=3).tolist() == EXPECTED


EXPECTED = [1799349922, 2821740504, 1705251477]
