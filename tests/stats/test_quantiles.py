"""Quantiles and the beta distribution in plain Python are scipy's."""

from __future__ import annotations

import pytest
from scipy import special
from vllm_bench.stats.quantiles import beta, beta_share, normal, student_t

SHARES = (0.001, 0.025, 0.05, 0.3, 0.9, 0.95, 0.975, 0.999)


@pytest.mark.parametrize("share", SHARES)
def test_the_normal_and_t_quantiles_are_scipys(share: float) -> None:
    assert normal(share) == pytest.approx(special.ndtri(share), rel=1e-12)
    for freedom in (1, 2, 3, 9, 29, 1000, 100_000):
        expected = special.stdtrit(freedom, share)
        assert student_t(freedom, share) == pytest.approx(expected, rel=1e-9)
    assert student_t(9, 0.5) == 0


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("of", [1, 2, 17.5, 1000, 3_000_000])
def test_the_beta_quantiles_are_scipys_also_of_shares_of_a_million(of: float, share: float) -> None:
    for late in (0, 0.3, 1, 5, 999, of / 2, of - 1):
        if late < of:
            a, b = late + 1, of - late
            found = beta(a, b, share)
            assert found == pytest.approx(special.betaincinv(a, b, share), rel=1e-7)
            assert beta_share(a, b, found) == pytest.approx(share, rel=1e-6)


def test_the_beta_distribution_lies_between_0_and_1() -> None:
    assert [beta_share(2, 3, x) for x in (-1, 0, 1, 2)] == [0, 0, 1, 1]
    assert beta_share(1, 1, 0.25) == pytest.approx(0.25)
